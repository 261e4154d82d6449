# SPDX-License-Identifier: Apache-2.0
"""The files of cockpit's page: what they must hold, and what they must not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from apvfio.install.installed_files import MARK, Choices, contents
from apvfio.view.picture import COMMON
from apvfio.view.svg_parts import DARK, LIGHT, Colors

PAGE = Path(__file__).parents[3] / "cockpit"
SCRIPTS = sorted(PAGE.glob("*.js"))
SHADES = ("paper", "ink", "faint", "warning", "host", "hatch", "edge")
MOST = 250


def variables(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#\w+);", block))


def luminance(color: str) -> float:
    """WCAG 2.1's relative luminance."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("theme", "colors"), [("light", LIGHT), ("dark", DARK)])
def test_the_colors_are_those_of_every_picture(theme: str, colors: Colors) -> None:
    light, dark = (PAGE / "style.css").read_text().split(':root[data-theme="dark"]')
    found = variables(light if theme == "light" else dark)
    assert {name: found[name] for name in SHADES} == {name: getattr(colors, name) for name in SHADES}
    assert tuple(found[f"hue-{at}"] for at in range(len(colors.hues))) == colors.hues
    for ground in ("info", "danger", "caution", "page", "paper"):
        assert contrast(found["ink"], found[ground]) >= 4.5, ground
    assert contrast(found["on-action"], found["action"]) >= 4.5
    assert contrast(found["link"], found["paper"]) >= 4.5
    for ground in ("paper", "page", "host"):
        assert contrast(found["faint"], found[ground]) >= 4.5, ground


def test_every_mark_has_a_look() -> None:
    plain = re.search(r"const PLAIN = \{(.*?)\}", (PAGE / "matrix.js").read_text())
    assert plain
    looks = dict(re.findall(r'"(.)": "(\w+)"', plain[1]))
    assert set(looks) == set(COMMON.values())
    css = (PAGE / "matrix.css").read_text()
    for look in (*looks.values(), *(f"hue-{at}" for at in range(len(LIGHT.hues)))):
        assert f".{look} {{" in css


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_one_and_takes_no_text_for_markup(path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    assert text.startswith("// SPDX-License-Identifier: Apache-2.0\n")
    assert text.count("\n") < MOST
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "http:",
        "https:",
    ):
        assert word not in text
    for name, source in re.findall(r"import \{ ([\w, ]+) \} from \"\./([\w.]+)\"", text):
        for one in name.split(", "):
            assert re.search(rf"export (async )?(function|class|const) {one}\b", (PAGE / source).read_text())
            assert len(re.findall(rf"\b{one}\b", text)) > 1, f"{one} is imported and not used"
    node = shutil.which("node")
    if node:
        module = tmp_path / "module.mjs"
        module.write_text(text)
        done = subprocess.run([node, "--check", str(module)], capture_output=True, text=True, check=False)
        assert done.stderr == ""


def test_everything_exported_is_used() -> None:
    texts = {path.name: path.read_text() for path in SCRIPTS}
    exported = {
        name: re.findall(r"export (?:async )?(?:function|class|const) (\w+)", text)
        for name, text in texts.items()
    }
    assert any(exported.values())
    for name, text in texts.items():
        for one in exported[name]:
            uses = len(re.findall(rf"\b{one}\b", text)) - 1
            others = [other for key, other in texts.items() if key != name]
            imported = any(re.search(rf"\b(words\.)?{one}\b", other) for other in others)
            assert uses or imported, f"{name}: {one}"


def test_the_manifest_is_cockpits_also_when_installed() -> None:
    shipped = json.loads((PAGE / "manifest.json").read_text())
    (installed,) = (item.text for item in contents(Choices()) if item.path.endswith("manifest.json"))
    told = json.loads(installed)
    assert told.pop("comment") == MARK
    assert told == shipped
    assert set(shipped["menu"]) == {"index"}
    assert shipped["menu"]["index"]["label"] in (PAGE / "index.html").read_text()
    assert not [item for item in contents(Choices(cockpit=False)) if "cockpit" in item.path]
