"""``ctsynth deform``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctsynth.cli import console
from ctsynth.cli._options import check_seed
from ctsynth.errors import UsageError

Mask = Annotated[
    Path,
    typer.Argument(
        metavar="MASK", help="Label volume in any of the formats, or a folder of them.", show_default=False
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="Folder for the deformed volumes.", show_default="beside the label volume")
]
Samples = Annotated[int, typer.Option(min=1, help="Deformed volumes of each label volume.")]
Strength = Annotated[
    float,
    typer.Option(min=0, max=10, help="Factor of the displacement: RMS 6 mm in plane and 4 mm along z at 1."),
]
Scale = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS=FACTOR", help="Scale a class about its center; may be repeated.", show_default=False
    ),
]
Shift = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS=R,A,S",
        help="Shift a class by so many mm toward the patient's right, anterior and superior; may be repeated.",
        show_default=False,
    ),
]
Insert = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS=FILE",
        help="Put a class, such as a lesion, where a mask on the same grid is not 0; may be repeated.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(callback=check_seed, help="Same seed, same deformations.")]
Shard = Annotated[
    str, typer.Option(metavar="I/N", help="Deform only share I of N; slurm takes I and N from the array.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace volumes made with other settings.")]


def command(
    mask: Mask,
    out: Out = None,
    samples: Samples = 1,
    strength: Strength = 1.0,
    scale: Scale = None,
    shift: Shift = None,
    insert: Insert = None,
    seed: Seed = 0,
    shard: Shard = "1/1",
    overwrite: Overwrite = False,
) -> None:
    """Make new, plausible label volumes by deforming existing ones.

    Each is bent by a smooth, invertible random map (Gaussian of 40 mm) and
    written as NAME_deformed_0.nii.gz and so on, on the label volume's own grid.
    The JSON beside it has the distance to its source: displacement in mm, and
    Dice and volume ratio of each class. Paths are printed:

        ctsynth deform seg.nii.gz --samples 8 --out more/
        ctsynth sample --mask more/
        ctsynth deform seg.nii.gz --scale spleen=1.3 --strength 0
        ctsynth deform seg.nii.gz --insert tumor=tumor.nii.gz --shift tumor=0,0,20

    A map in which a class vanishes, splits, or changes its volume by more than
    25 % is refused, and another one is tried. What is scaled or shifted moves its
    neighborhood along, fading over 20 mm. The names of the classes, in the
    header or a dataset.json, go into the new header. Run again, the command skips
    what is whole.
    """
    from ctsynth.data.deform import DeformConfig, deform, label_volumes
    from ctsynth.data.edit_labels import edits_of
    from ctsynth.data.formats import names_a_file
    from ctsynth.data.insert import Insertion
    from ctsynth.files import sole
    from ctsynth.shards import lock_name, take

    if out is not None and names_a_file(out):
        raise UsageError(f"--out {out}: name a folder", hint="it gets NAME_deformed_0.nii.gz and on")
    config = DeformConfig(
        samples=samples,
        seed=seed,
        strength=strength,
        edits=edits_of(scale or (), shift or ()),
        insertions=tuple(map(Insertion.parse, insert or ())),
    )
    files = take(label_volumes(mask), shard)
    folder = out or (mask if mask.is_dir() else mask.parent)
    with sole(folder / lock_name("deform", shard)), console.progress("deform", len(files)) as progress:
        for path in deform(files, out, config, overwrite=overwrite, progress=progress):
            console.echo(str(path))
