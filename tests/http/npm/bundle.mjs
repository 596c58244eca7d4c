// Makes a script for a page of the examples of docs/frontend.md: Story.jsx to react.js, Story.svelte to svelte.js.
import { readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";
import { compile } from "svelte/compiler";

writeFileSync("story.js", compile(readFileSync("Story.svelte", "utf8"), { generate: "client" }).js.code);
const entries = {
  react: `import { createRoot } from "react-dom/client"; import { Story } from "./Story.jsx";
          createRoot(document.body).render(<Story prompt="Oil " />);`,
  svelte: `import { mount } from "svelte"; import Story from "./story.js";
           mount(Story, { target: document.body, props: { prompt: "Oil " } });`,
};
for (const [name, contents] of Object.entries(entries))
  await build({
    stdin: { contents, loader: "jsx", resolveDir: "." }, outfile: `${name}.js`, bundle: true, jsx: "automatic", format: "esm",
    conditions: ["browser"], define: { "process.env.NODE_ENV": '"production"' },
  });
