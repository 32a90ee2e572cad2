"""The page of a blind reading: pictures, two buttons each, and the reader's marks as a file; no answers."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ctsynth.reporting.markup import page

_CSS = """
body { background: #111; color: #ddd; font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem;
  padding: 1rem; }
.pictures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)); }
fieldset { border: 1px solid #333; margin: 0; min-width: 0; padding: .6rem; }
fieldset.marked { border-color: #6a6; }
img { display: block; width: 100%; }
label { display: inline-block; margin: .5rem 1rem 0 0; }
footer { background: #111; border-top: 1px solid #333; bottom: 0; padding: .8rem 0; position: sticky; }
button { font: inherit; padding: .3rem 1rem; }
"""

_SCRIPT = """
const form = document.querySelector("form"), count = document.querySelector("output");
const marks = () => Object.fromEntries(new FormData(form).entries());
form.addEventListener("change", (event) => {
  event.target.closest("fieldset").classList.add("marked");
  count.textContent = Object.keys(marks()).length + " of " + form.dataset.count + " marked";
});
document.querySelector("button").addEventListener("click", () => {
  const content = JSON.stringify({schema: 1, reading: form.dataset.reading, marks: marks()}, null, 2);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content + "\\n"], {type: "application/json"}));
  link.download = "blind-marks.json";
  link.click();
});
"""


def blind_page(pictures: Sequence[str], reading: str) -> str:
    """The page, which needs no network.

    Args:
        pictures: Addresses of the slices, in their order.
        reading: Stands in the marks, so that they are not taken for those of another page.
    """
    return page("blind.html", pictures=pictures, reading=reading, css=Markup(_CSS), script=Markup(_SCRIPT))
