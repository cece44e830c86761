"""Prints the receipt of a deletion, store by store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragsvc.cli.output import print_line, print_table, show_time

if TYPE_CHECKING:
    from ragsvc.http.v1.deletions import DeletionView


def print_receipt(deletion: DeletionView) -> None:
    """Print a deletion and, once it is completed, its receipt."""
    subject, error = deletion["subject"], deletion["error"]
    print_line(f"{deletion['id']}  {subject['kind']} {subject['id']}: {deletion['status']}")
    if error is not None:
        print_line(f"{error['message']} ({error['code']})")
    if not deletion["stores"]:
        return
    print_table(
        ("STORE", "REMOVED", "REDACTED", "REMAINING", "RETAINED UNTIL"),
        [
            (one["store"], one["removed"], one["redacted"], one["remaining"], show_time(one["retained_until"]))
            for one in deletion["stores"]
        ],
    )
    if deletion["verified_at"]:
        print_line(f"verified by a second check at {show_time(deletion['verified_at'])}")
