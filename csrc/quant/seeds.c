/* seeds.c -- the first words of self-calibration, our own: prose, code, several languages, chat turns. The model writes the rest.
 *
 * A mixed set matters: calibrated on English prose alone, GPTQ can lose to rounding outside it. A line that begins with '?'
 * is a user's turn. */
#include "quant/calib.h"

const char *const nb_calib_seeds[] = {
    "The harbour was still dark when the first boats came in, and",
    "In the spring of that year the committee published its report on",
    "#include <stdio.h>\n#include <stdlib.h>\n\nint main(int argc, char **argv)\n{\n",
    "?How does a heat pump move warmth from a cold place to a warm one?",
    "Die Bibliothek am Marktplatz wurde im Jahr",
    "def merge_sorted(left, right):\n    \"\"\"Merge two sorted lists.\"\"\"\n",
    "La receta de mi abuela empieza con",
    "?Write a short letter that thanks a neighbour for watering the plants.",
    "A star is held together by its own gravity; when the fuel in its core",
    "Le marché du samedi commence avant l'aube, quand",
    "1. Preheat the oven.\n2.",
    "SELECT name, COUNT(*) FROM orders WHERE",
    "?What is 17 times 24? Explain each step.",
    "The theorem follows from the observation that every even number",
    "\"Where have you been?\" she asked. He put down his bag and",
    "function debounce(fn, delay) {\n  let timer;\n  return function (...args) {\n",
    "Il treno per Torino parte alle",
    "?List three reasons why bridges expand in summer, and how builders allow for it.",
    "History of the town\n\nThe first settlement at the mouth of the river",
    "# Installation\n\nTo install the package, run:\n\n```\n",
    "O livro conta a história de",
    "In economics, the price of a good rises when",
    "?Translate into French: the children are playing in the garden.",
    "Abstract. We study the behaviour of",
    "The recipe needs flour, butter and a little salt. First",
    "class Queue:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n",
    "Dear Sir or Madam,\n\nI am writing to",
    "?My computer is slow since the last update. What should I check first?",
    "Once there was a fox who lived at the edge of",
    "The patient was advised to rest, to drink water and",
    "for (int i = 0; i < n; i++) {\n    sum += values[i];\n}\n\n// The average is",
    "?Who wrote Don Quixote, and what is the book about?",
    0,
};
