/* The panel "models". */

export function mount() {}

export function show() {}

export function hide() {}
