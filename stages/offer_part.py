"""Finished stores of one part of a data set → what it offers to training, as a small JSON file."""

from stages._core.cli import main
from stages._core.params import StageParams
from stages._core.runtime import Runtime
from stages._core.stage import Paths, Stage, Summary
from stages._data.offers import offer_of, write_offer


class OfferPartParams(StageParams):
    """This stage has no settings of its own."""


def run(params: OfferPartParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Record paths and digests of the given stores. The file is named after the part."""
    write_offer(outputs["offer"], offer_of(outputs["offer"].stem, inputs.group("stores")))
    return {"stores": len(inputs)}


STAGE = Stage("offer_part", OfferPartParams, inputs=("stores.*",), outputs=("offer",), run=run)

if __name__ == "__main__":
    main(STAGE)
