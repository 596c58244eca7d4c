/* The panel "status". */

export function mount() {}

export function show() {}

export function hide() {}
