"""The offers of all parts of a data set → one file, which the training stage that asked for it depends on."""

from stages._core.cli import main
from stages._core.params import StageParams
from stages._core.runtime import Runtime
from stages._core.stage import Paths, Stage, Summary
from stages._data.offers import Offer, read_offer, write_offer


class GatherPartsParams(StageParams):
    """This stage has no settings of its own."""


def run(params: GatherPartsParams, inputs: Paths, outputs: Paths, runtime: Runtime) -> Summary:
    """Join every offer below the folder.

    Raises:
        FileNotFoundError: there is none.
    """
    joined: Offer = {}
    for path in sorted(inputs["offers"].glob("*.json")):
        joined |= read_offer(path)
    if not joined:
        raise FileNotFoundError(f"{inputs['offers']} holds no offer: no part of the data set is prepared")
    write_offer(outputs["offer"], joined)
    return {"parts": len(joined)}


STAGE = Stage("gather_parts", GatherPartsParams, inputs=("offers",), outputs=("offer",), run=run)

if __name__ == "__main__":
    main(STAGE)
