"""Members: M whole networks side by side, all parts of one before all parts of the next."""

from torch import Tensor


def fold_members(x: Tensor, n_members: int) -> Tensor:
    """Give each member of each row a row of its own.

    Parameters
    ----------
    x : Tensor of shape (B, M * n, ...)
        What the members' parts gave, member after member.
    n_members : int
        Number M of members.

    Returns
    -------
    Tensor of shape (B * M, n, ...)
        The members of the first row, then those of the second; with one member `x` itself.
    """
    return x if n_members == 1 else x.unflatten(1, (n_members, -1)).flatten(0, 1)


def unfold_members(x: Tensor, n_members: int) -> Tensor:
    """Undo `fold_members`: (B * M, n, ...) -> (B, M * n, ...).

    Parameters
    ----------
    x : Tensor of shape (B * M, n, ...)
        A row for each member of each row.
    n_members : int
        Number M of members.
    """
    return x if n_members == 1 else x.unflatten(0, (-1, n_members)).flatten(1, 2)


def repeat_per_task(x: Tensor, n_tasks: int) -> Tensor:
    """Give each task what its member has for all tasks.

    Parameters
    ----------
    x : Tensor of shape (B, M, H)
        One representation for each member.
    n_tasks : int
        Number K of tasks.

    Returns
    -------
    Tensor of shape (B, M * K, H)
        With one member a view.
    """
    if x.shape[1] == 1:
        return x.expand(-1, n_tasks, -1)
    # Towers want the rows of each task in one piece of memory.
    by_member = x.transpose(0, 1).unsqueeze(1).expand(-1, n_tasks, -1, -1)
    return by_member.flatten(0, 1).transpose(0, 1)
