"""
A recommender: ids, histories, tags
===================================

Users, items, the items a user has seen, an item's tags: columns of ids, some with several in a
cell. One network predicts two labels, whether the user *likes* the item and how long they
*watch*.
"""

# %%
# Films and users
# ---------------
# Made here, with a structure that can be looked for: every film has one of four genres, every user
# a taste for each genre, and the histories show the taste. No column tells the genre.

# sphinx_gallery_thumbnail_number = 2
import numpy as np
import pandas as pd

rng = np.random.default_rng(0)
n, n_users, n_films = 20_000, 300, 80
genre = rng.integers(0, 4, n_films)
marks = rng.random((n_films, 4)) < 0.3
taste = 1.5 * rng.normal(size=(n_users, 4))
chance = np.exp(taste - taste.max(axis=1, keepdims=True))
chance /= chance.sum(axis=1, keepdims=True)


def watched_before(user):
    """Draw up to twelve films, mostly of the genres that a user likes."""
    liked = rng.choice(4, size=rng.integers(0, 13), p=chance[user])
    return [int(rng.choice(np.flatnonzero(genre == g))) for g in liked]


user = rng.integers(0, n_users, n)
film = rng.integers(0, n_films, n)
names = np.array(["new", "award", "long", "series"])
X = pd.DataFrame(
    {
        "user": user + 7_000_000_000,
        "film": film,
        "history": [watched_before(k) for k in user],
        "tags": ["|".join(names[marks[k]]) for k in film],
        "hour": rng.integers(0, 24, n),
    }
)
score = (
    taste[user, genre[film]]
    + marks[film] @ [0.5, 1.0, -1.0, 0.3]
    + 0.3 * (X["hour"] > 18)
)
Y = pd.DataFrame(
    {
        "like": (score + rng.logistic(size=n) > 1).astype(int),
        "minutes": 90 / (1 + np.exp(-0.8 * score - 0.4 * rng.normal(size=n))),
    }
)
X.join(Y.round(1)).head()

# %%
# Say what each column is
# -----------------------
# - ``user``: ids without end. `~sk_mtl.categorical.Hashed` gives them a table of fixed size.
# - ``film`` and ``history``: the same ids, so one vocabulary and one table. The mean of a
#   history's vectors then lies among those of the films.
# - ``tags``: several in a string, with a separator.

from sklearn.model_selection import train_test_split

from sk_mtl import SharedBottom
from sk_mtl.categorical import Bag, Categories, Hashed

kinds = {
    "user": Hashed(n_slots=2**12),
    "film": Categories(vocabulary="film"),
    "history": Bag("mean", vocabulary="film"),
    "tags": Bag("sum", separator="|"),
}
X_train, X_test, Y_train, Y_test = train_test_split(X, Y, random_state=0)
model = SharedBottom(
    categorical_features=kinds,
    task_types={"like": "binary", "minutes": "regression"},
    random_state=0,
).fit(X_train, Y_train)

# %%
# What the columns bring
# ----------------------
# The same model without some of them:

from sk_mtl.metrics import task_scorers

scorers = {
    "like, AUC": task_scorers("roc_auc", ["like"])["like"],
    "minutes, R²": task_scorers("r2", ["minutes"])["minutes"],
}
scores = {
    "all columns": {
        name: score(model, X_test, Y_test) for name, score in scorers.items()
    }
}
for left_out in (["user"], ["history"], ["user", "history"]):
    rest = X.columns.drop(left_out)
    fewer = SharedBottom(
        categorical_features={
            name: kind for name, kind in kinds.items() if name in rest
        },
        task_types=model.task_types,
        random_state=0,
    ).fit(X_train[rest], Y_train)
    scores[f"without {' and '.join(left_out)}"] = {
        name: score(fewer, X_test[rest], Y_test)
        for name, score in scorers.items()
    }
table = pd.DataFrame(scores).T
table.round(3)

# %%

import matplotlib.pyplot as plt

figure, axes = plt.subplots(
    1, 2, figsize=(8, 2.6), sharey=True, layout="constrained"
)
for ax, (name, values), color in zip(
    axes, table.items(), ("#0072B2", "#D55E00"), strict=True
):
    ax.plot(values, table.index, "o", color=color, markersize=9)
    ax.set(xlabel=name)
    ax.grid(axis="x", alpha=0.3)
    ax.margins(x=0.15, y=0.2)
axes[0].invert_yaxis()

# %%
# What the network has learned of films
# -------------------------------------
# Nobody told it a genre. `~sk_mtl.inspection.embedding_vectors` gives the vectors of the films; of
# each film's five nearest neighbors, how many are of its genre? By chance it would be a quarter.

from sk_mtl.inspection import EmbeddingDisplay, embedding_neighbors

same = [
    np.mean(
        genre[embedding_neighbors(model, "film", k, n_neighbors=5).index]
        == genre[k]
    )
    for k in range(n_films)
]
print(f"{np.mean(same):.0%} of the nearest five are of the same genre")

# %%
# The two directions in which the vectors differ most, and in color what the network was not told.

display = EmbeddingDisplay.from_estimator(model, "film")
display.scatter_.set_visible(False)
colors = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
for g, (color, marker) in enumerate(zip(colors, "osD^", strict=True)):
    x, y = display.points_[genre[display.vectors.index] == g].T
    look = {"color": color, "marker": marker, "s": 45, "zorder": 3}
    display.ax_.scatter(x, y, label=f"genre {g}", **look)
display.ax_.legend()

# %%
# Other kinds of column: :doc:`/guide/features`. Vocabularies of millions:
# :doc:`/guide/engines`.
