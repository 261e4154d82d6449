// SPDX-License-Identifier: Apache-2.0
// Light or dark, as cockpit's menu says: it keeps "light", "dark" or "auto" and tells its pages of a change.

const KEY = "shell:style";
const system = window.matchMedia("(prefers-color-scheme: dark)");

function follow(style = localStorage.getItem(KEY)) {
    const dark = style === "dark" || (style !== "light" && system.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
}

export function followTheme() {
    follow();
    system.addEventListener("change", () => follow());
    window.addEventListener("storage", event => event.key === KEY && follow());
    window.addEventListener("cockpit-style", event => follow(event.detail.style));
}
