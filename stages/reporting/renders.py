"""Which renders of held-out people are shown."""

from stages._core.store import Store


def fronts_and_backs(renders: Store, split: str = "test") -> dict[str, tuple[int, int]]:
    """Each person of a split: the rows of the view nearest to the front and of that nearest to the back."""
    subjects, yaw = renders.index["subject"].tolist(), renders.index["yaw"].tolist()
    views: dict[str, list[int]] = {}
    for row in renders.ok_rows(split).tolist():
        views.setdefault(subjects[row], []).append(row)

    def turned(row: int) -> float:
        """Degrees from the front, 0…180."""
        return abs((yaw[row] + 180) % 360 - 180)

    return {subject: (min(rows, key=turned), max(rows, key=turned)) for subject, rows in views.items()}
