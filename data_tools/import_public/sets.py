"""Which public data sets are read, what their licences say, and what each file of them is."""

import dataclasses

# What a file is. A role that no set uses is left out, and said so.
DWI, ADC, TMAX, SERIES = "DWI", "ADC", "Tmax", "raw perfusion series"
# Other maps of perfusion, which lie beside Tmax.
OTHER_MAPS = ("MTT", "TTP", "CBF", "CBV")
LABEL, CORE_LABEL, MERGED_LABELS = "penumbra label", "core label", "merged labels"
LESION, OUTCOME = "lesion mask", "OT"

OT_IS_NO_TRUTH = (
    "OT of ISLES 2016 and 2017 is the infarct seen about 90 days later, after treatment. It is not "
    "the tissue that was hypoperfused on the day of the stroke, so it is never taken as truth, in "
    "whatever way it is given. Their truth is Tmax >= 6 s, which is taken without asking"
)
# Why a file is not taken.
NOT_NEEDED = "not needed"
LEFT_OUT = {
    OUTCOME: "infarct after about 90 days, never truth",
    LESION: "no label of hypoperfusion",
    LABEL: "this set has no label of hypoperfusion but Tmax",
    CORE_LABEL: "this set has no label of the core",
    MERGED_LABELS: "this set has no labels but Tmax",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublicSet:
    """A data set.

    Attributes:
        key: as ``--set`` takes it, and how its patients' names begin.
        title: as people call it.
        needs: roles without which a patient cannot be used.
        takes: roles that may be there too.
        licence: as its cards say it.
        url: where it comes from.
        cite: what its authors want cited.
    """

    key: str
    title: str
    needs: tuple[str, ...]
    takes: tuple[str, ...] = ()
    licence: str
    url: str
    cite: str


_ZENODO = "https://zenodo.org/records/17736412"
_CONFIRM = "; please confirm it at the source"
_MAIER = "Maier et al., Med Image Anal 2017;35:250"
_WINZECK = "Winzeck et al., Front Neurol 2018;9:679"
# In the order in which the first of two copies of a patient is kept.
SETS = {
    each.key: each
    for each in (
        PublicSet(
            key="isles2017",
            title="ISLES 2017",
            needs=(ADC, TMAX, SERIES),
            licence=f"CC BY 4.0 by the card of a mirror{_CONFIRM}",
            url=_ZENODO,
            cite=_WINZECK,
        ),
        PublicSet(
            key="isles2016",
            title="ISLES 2016",
            needs=(ADC, TMAX, SERIES),
            licence=f"CC BY 4.0 by the card of a mirror{_CONFIRM}",
            url=_ZENODO,
            cite=_WINZECK,
        ),
        PublicSet(
            key="spes",
            title="ISLES 2015 SPES",
            needs=(DWI, TMAX),
            takes=(LABEL, CORE_LABEL, MERGED_LABELS),
            licence=f"CC BY 4.0 by the card of a mirror{_CONFIRM}",
            url=_ZENODO,
            cite=_MAIER,
        ),
        PublicSet(
            key="isles2022",
            title="ISLES 2022",
            needs=(DWI, ADC),
            takes=(LESION,),
            licence=f"CC BY-SA 4.0{_CONFIRM}",
            url="https://zenodo.org/records/7960856",
            cite="Hernandez Petzsche et al., Sci Data 2022;9:762",
        ),
    )
}
