"""What mutex sections are called: one is its name and its lock, not its name alone (wcp 1.7)."""

from collections.abc import Iterable

from stabilize_celery.models.stage.stage import StageExecution

__all__ = ["section_names"]


def section_names(stages: Iterable[StageExecution]) -> dict[str, str]:
    """Return the section of each stage that is in one, by ref.

    Where sections of one name have several keys or scopes, the later ones are told apart by their key.
    """
    members = [stage for stage in stages if stage.mutex_section]
    taken = {str(stage.mutex_section) for stage in members}
    first: dict[str, tuple[str, str]] = {}
    names: dict[tuple[str, tuple[str, str]], str] = {}
    for stage in members:
        section, lock = str(stage.mutex_section), (stage.mutex_scope.name, str(stage.mutex_key))
        if first.setdefault(section, lock) != lock and (section, lock) not in names:
            name = f"{section} ({stage.mutex_key})"
            while name in taken:
                name += "'"
            taken.add(name)
            names[section, lock] = name
    return {
        stage.ref_id: names.get((section, (stage.mutex_scope.name, str(stage.mutex_key))), section)
        for stage in members
        if (section := str(stage.mutex_section))
    }
