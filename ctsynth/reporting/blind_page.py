"""The page of a blind reading: pictures, two buttons each, and the reader's marks as a file; no answers."""

from __future__ import annotations

from collections.abc import Sequence

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
const form = document.querySelector("form"), told = document.querySelector("output");
const marks = () => Object.fromEntries(new FormData(form).entries());
form.addEventListener("change", (event) => {
  event.target.closest("fieldset").classList.add("marked");
  told.textContent = Object.keys(marks()).length + " of " + form.dataset.count + " marked";
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
    cells = "\n".join(
        f"""<fieldset><legend>{number}</legend><img src="{picture}" alt="slice {number}">
<label><input type="radio" name="{number}" value="real"> real</label>
<label><input type="radio" name="{number}" value="synthetic"> synthetic</label></fieldset>"""
        for number, picture in enumerate(pictures, start=1)
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<link rel="icon" href="data:,">
<title>Real or synthetic?</title>
<style>{_CSS}</style>
</head>
<body>
<h1>Real or synthetic?</h1>
<p>{len(pictures)} axial CT slices of the abdomen in random order, in one window. Mark each as real or synthetic,
then save the marks and send the file back. Not for diagnosis.</p>
<form data-reading="{reading}" data-count="{len(pictures)}">
<div class="pictures">
{cells}
</div>
</form>
<footer><button type="button">Save the marks</button> <output>0 of {len(pictures)} marked</output></footer>
<script>{_SCRIPT}</script>
</body>
</html>
"""
