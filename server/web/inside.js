/* The panel "inside". */

export function mount() {}

export function show() {}

export function hide() {}
