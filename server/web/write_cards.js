/* Several continuations side by side; one of them goes on. */
import { button, byId, copy, make } from "./dom.js";

const SHOWN = 4000; /* characters of a card while it is written, and twice as many at the end */

/* A continuation. request: what would write it alone. */
class Card {
  text = "";
  end = null;

  constructor(title, request, choose) {
    this.title = title;
    this.request = request;
    this.shown = document.createTextNode("");
    this.state = make("span", { className: "hint" }, "writing …");
    this.button = button("Go on with this", () => choose(this), { disabled: true });
    const box = make("p", { className: "text", tabIndex: 0, dir: "auto", role: "group", "aria-label": title }, this.shown);
    const copies = button("Copy", (event) => copy(this.request.prompt + this.text, event.currentTarget));
    copies.setAttribute("aria-label", `Copy the text, ${title}`);
    this.button.setAttribute("aria-label", `Go on with this: ${title}`);
    this.box = make(
      "article",
      { className: "continuation" },
      make("h3", {}, title),
      box,
      make("p", { className: "card-foot" }, this.button, copies, this.state),
    );
  }

  add(text) {
    this.text += text;
    if (this.shown.length + text.length > 2 * SHOWN) this.shown.data = this.text.slice(-SHOWN);
    else this.shown.appendData(text);
  }

  finish(words) {
    this.state.textContent = words;
    if (this.text.length > 2 * SHOWN) this.shown.data = `… ${this.text.slice(-2 * SHOWN)}`;
    this.button.disabled = false;
  }
}

export class Cards {
  list = [];

  /* begin([{title, request}], choose): choose(card) is called when one is to go on. */
  begin(entries, choose) {
    this.list = entries.map(({ title, request }) => new Card(title, request, choose));
    byId("cards").replaceChildren(...this.list.map(({ box }) => box));
    byId("continuations").hidden = false;
  }

  mark(chosen) {
    for (const card of this.list) {
      card.box.classList.toggle("chosen", card === chosen);
      card.button.setAttribute("aria-pressed", String(card === chosen));
    }
  }

  clear() {
    this.list = [];
    byId("cards").replaceChildren();
    byId("continuations").hidden = true;
  }
}
