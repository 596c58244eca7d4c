/* The daemon behind the page: requests with the token, and the model that this page uses. */
import { Lstmd, LstmdError } from "../client.js";
import { byId, notify } from "./dom.js";

export const daemon = new Lstmd();

/* This tab keeps the token until it is closed, and nothing else does. */
const KEY = "token";
daemon.token = sessionStorage.getItem(KEY) ?? undefined;

let question = null; /* the dialog's promise while it is open: many calls, one question */

function askToken(error) {
  question ??= new Promise((resolve, reject) => {
    const dialog = byId("token-dialog");
    byId("token-hint").textContent = hintOf(error);
    byId("token").value = "";
    dialog.addEventListener(
      "close",
      () => {
        question = null;
        if (dialog.returnValue !== "ok") return reject(error);
        daemon.token = byId("token").value;
        sessionStorage.setItem(KEY, daemon.token);
        resolve();
      },
      { once: true },
    );
    dialog.returnValue = "";
    dialog.showModal();
  });
  return question;
}

function hintOf(error) {
  if (error.status === 403) return "This needs an admin token.";
  return daemon.token ? "The daemon does not know this token." : "This daemon wants a token.";
}

/* Whether a token would help. */
export function wantsToken(error) {
  return error.status === 401 || (error.status === 403 && daemon.token !== undefined);
}

/* Does work(daemon) and asks for a token where the daemon wants one. ask: false leaves the question to the caller, for
 * what the page does by itself. */
export async function withToken(work, { ask = true } = {}) {
  for (;;) {
    const used = daemon.token;
    try {
      return await work(daemon);
    } catch (error) {
      if (!ask || !wantsToken(error)) throw error;
      if (used === daemon.token) await askToken(error);
    }
  }
}

/* One request: call("models/default", {name}, {method: "PUT"}). */
export function call(path, body, { ask, ...options } = {}) {
  return withToken(() => daemon.call(path, body, options), { ask });
}

const MODEL = "model"; /* a reload keeps the choice of this tab */
const LOOK = 5000; /* milliseconds */

/* The page never changes its model silently. */
function notifyOfChange(before, now) {
  if (before.name !== now?.name)
    notify(`The model ${before.name} is no longer loaded. ${now ? `This page uses ${now.name} now.` : ""}`);
  else if (before.modified_at !== now.modified_at)
    notify(`The model ${now.name} was trained anew. The same seed gives another text now.`);
}

/* The model that this page uses, which need not be the daemon's default one. Every request of the page names it. A
 * "change" comes when the list is read again, and when another model is chosen. */
class Chosen extends EventTarget {
  models = []; /* those that are loaded, the default one first */
  all = []; /* loaded or not */
  model = null;
  #looked = -Infinity;

  take(all) {
    const before = this.model;
    this.all = all;
    this.models = all.filter(({ state }) => state === "loaded").sort((a, b) => b.default - a.default);
    this.choose(before?.name ?? sessionStorage.getItem(MODEL));
    if (before) notifyOfChange(before, this.model);
  }

  choose(name) {
    this.model = this.models.find((model) => model.name === name) ?? this.models[0] ?? null;
    if (this.model) sessionStorage.setItem(MODEL, this.model.name);
    this.dispatchEvent(new Event("change"));
  }

  /* Looks whether the model is still the same one; at most now and then, and nobody waits for it. */
  refresh() {
    const at = performance.now();
    if (at - this.#looked < LOOK) return;
    this.#looked = at;
    list({ ask: false }).catch(() => {}); /* the request that follows says what is wrong */
  }

  /* For the fields of a request; throws where there is no model. */
  get name() {
    if (!this.model) throw new LstmdError("There is no model yet. Train one, or import one.");
    return this.model.name;
  }
}

export const chosen = new Chosen();

/* Reads the list of models again. */
export async function list(options) {
  chosen.take(await withToken(() => daemon.models(), options));
}
