// SPDX-License-Identifier: Apache-2.0
// Text of unknown origin, made fit to be shown as apvfio shows it in a terminal.

const LONGEST_NAME = 80;

/**
 * One line of text: what cannot be printed becomes a `?`, such as controls, characters without width, and those that
 * change the direction of what follows (Python's str.isprintable). More than `limit` characters end with an ellipsis.
 * What is no text is shown as JSON.
 */
export function printable(value, limit = 10000) {
    const text = typeof value === "string" ? value : JSON.stringify(value) ?? "";
    const clean = [...text.slice(0, 2 * limit + 2).replace(/[\p{C}\p{Z}]/gu, one => one === " " ? one : "?")];
    return clean.length <= limit ? clean.join("") : clean.slice(0, limit - 1).join("") + "…";
}

/** What something is called, by anybody. */
export const called = value => printable(value, LONGEST_NAME);

/** The time of day, as whoever reads it writes it. */
export const timeOfDay = date => date.toLocaleTimeString();
