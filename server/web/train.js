/* The panel "train". */

export function mount() {}

export function show() {}

export function hide() {}
