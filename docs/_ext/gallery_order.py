"""The order of the gallery: as one would read it, not as files are named."""

ORDER = (
    # First
    "quickstart",
    "mixed_tasks",
    # Searches
    "search_architectures",
    "optuna",
    "dask",
    # Recommenders
    "recommender",
    "funnel",
    # Looking inside
    "display_training",
    "display_tasks",
    "display_experts",
    "display_categories",
    # Into production
    "parquet",
    "onnx",
    # Beyond
    "own_architecture",
    "adult",
    "census_income",
)


class ReadingOrder:
    """A sort key of sphinx-gallery; files that it does not name come last, by name."""

    def __init__(self, src_dir: str) -> None:
        del src_dir

    def __repr__(self) -> str:
        return "<ReadingOrder>"

    def __call__(self, filename: str) -> tuple[int, str]:
        """Return the place of a file such as ``plot_adult.py``."""
        name = filename.removeprefix("plot_").removesuffix(".py")
        return (ORDER.index(name) if name in ORDER else len(ORDER)), filename
