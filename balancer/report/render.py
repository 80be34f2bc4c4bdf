"""Pictures into files: PNG and SVG by vl-convert, without a browser; the JavaScript of a page."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, Final

from balancer.errors import BalancerError, MissingExtraError
from balancer.report.palette import config

#: What a file may be, by its suffix.
SUFFIXES: Final = (".png", ".svg", ".html")

#: Pixels of a PNG for one of the picture.
SCALE: Final = 2.0


def image(spec: dict[str, Any], suffix: str) -> bytes:
    """A Vega-Lite specification as PNG or SVG, on white. Raises `MissingExtraError`, `BalancerError`."""
    converter = _vl_convert()
    drawn = {**spec, "config": config(dark=False, background="white")}
    try:
        if suffix == ".png":
            return bytes(converter.vegalite_to_png(drawn, vl_version=_version(), scale=SCALE))
        if suffix == ".svg":
            return str(converter.vegalite_to_svg(drawn, vl_version=_version())).encode()
    except ValueError as error:
        raise BalancerError(f"the picture cannot be drawn: {error}") from error
    raise BalancerError(f"a picture is .png or .svg, not '{suffix}'")


@cache
def javascript() -> str:
    """Vega, Vega-Lite and vega-embed as one script that sets `window.vegaEmbed` and needs no network."""
    bundle = str(_vl_convert().javascript_bundle(vl_version=_version()))
    return bundle.replace("</script", "<\\/script")


def _version() -> str:
    """The Vega-Lite version that Altair writes, as vl-convert names it ("6.4")."""
    try:
        altair = importlib.import_module("altair")
    except ModuleNotFoundError as error:
        raise _missing("altair", error) from error
    major, minor = altair.SCHEMA_VERSION.lstrip("v").split(".")[:2]
    return f"{major}.{minor}"


def _vl_convert() -> Any:
    try:
        return importlib.import_module("vl_convert")
    except ModuleNotFoundError as error:
        raise _missing("vl-convert-python", error) from error


def _missing(package: str, error: Exception) -> MissingExtraError:
    return MissingExtraError(
        f"pictures need {package}, which is not installed: pip install 'celery-balancer[report]' ({error})"
    )
