// Order of search results: Sphinx gives all pages that hold a word the same score and then goes by the alphabet, so
// that AdaTT's reference came before the guide. Among equals the guide comes first, and records of runs last.
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  score: (result) => {
    const [docname, title, , , score, , kind] = result;
    // A method, which eighteen estimators inherit: after the pages that explain it.
    if (kind === "object" && !docname.endsWith(title)) return score / 10;
    if (kind !== "text") return score;
    const order = ["changes", "developers/", "results/", "api/", "auto_examples/", "architectures/"];
    const place = order.findIndex((start) => docname.startsWith(start));
    return score + 0.1 * (place < 0 ? order.length : place);
  },
};
