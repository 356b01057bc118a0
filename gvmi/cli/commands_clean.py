"""`derl-image clean`."""

from __future__ import annotations

import rich_click as click

from gvmi.assembly.building import IMAGES_FOLDER
from gvmi.packages.cache_cleaning import clean_cache
from gvmi.packages.downloads import cache_folder


@click.command()
@click.option("--downloads", is_flag=True, help="Delete fetched packages, too.")
def clean(downloads: bool) -> None:
    """Delete what builds have kept: build roots, compiled wheels, leftovers of killed builds.

    The next build makes them again. Built images stay.
    """
    freed = clean_cache(IMAGES_FOLDER, downloads=downloads)
    click.echo(f"{freed / 1e6:,.0f} MB freed in {cache_folder()}")
