"""What `report.py` imports."""

from statistics import mean


def summary(values: list[float]) -> dict[str, float]:
    """Return the figures worth reporting."""
    return {"count": len(values), "mean": mean(values), "min": min(values), "max": max(values)}
