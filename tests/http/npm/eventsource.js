// node eventsource.js URL: reads a stream of /generate as a browser's EventSource does, until [DONE]; prints what it got.
"use strict";

const { EventSource } = require("eventsource");

const told = { opened: 0, events: [], errors: [] };
const source = new EventSource(process.argv[2]);

function end(code) {
    source.close();
    console.log(JSON.stringify(told));
    process.exitCode = code;
}

source.onopen = () => told.opened++;
source.addEventListener("error", (event) => {
    told.errors.push(event.data ?? event.message ?? String(event.code));
    end(event.data ? 0 : 1); // a named event of ours has data, a broken connection has none
});
source.onmessage = (event) => {
    if (event.data === "[DONE]") return end(0);
    told.events.push(JSON.parse(event.data));
};
