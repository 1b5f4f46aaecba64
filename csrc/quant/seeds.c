/* seeds.c -- the first words of self-calibration, our own: prose, code, several languages, chat
 * turns, lists, mathematics. The model writes the rest.
 *
 * A mixed set matters: calibrated on English prose alone, GPTQ can lose to rounding outside it. 64
 * seeds of about 15 to 50 tokens, as many as the default has samples; in the order that they are
 * used, so that the first eight are a mixture already: one in four a user's turn (a line that
 * begins with '?', without characters that JSON escapes), one in four code or mathematics, one in
 * five not English. */
#include "quant/calib.h"

const char *const nb_calib_seeds[] = {
    "The harbour was still dark when the first boats came in, and the women on the quay had "
    "already lit their lamps.",
    "#include <stdio.h>\n#include <stdlib.h>\n\n/* Reads numbers from standard input and prints "
    "their median. */\nint main(void)\n{\n",
    "?How does a heat pump move warmth from a cold place to a warm one?",
    "Die Bibliothek am Marktplatz wurde im Jahr 1887 gegründet und hat seither drei Brände "
    "überstanden.",
    "In the spring of that year the committee published its report on the state of the railways, "
    "which nobody had asked for and everybody read.",
    "def merge_sorted(left, right):\n    \"\"\"Merge two sorted lists into one sorted "
    "list.\"\"\"\n    result = []\n",
    "?Write a short letter that thanks a neighbour for watering the plants while I was away.",
    "La receta de mi abuela empieza con tres tomates maduros, una cebolla y mucha paciencia.",
    "A star is held together by its own gravity; when the fuel in its core runs out, the balance "
    "between",
    "?What is 17 times 24? Explain each step.",
    "Le marché du samedi commence avant l'aube, quand les premiers camions arrivent sur la place "
    "et que",
    "SELECT customer.name, COUNT(*) AS orders, SUM(amount) AS total\nFROM orders\nJOIN customer ON",
    "Shopping list for the weekend:\n- two loaves of bread\n- a kilo of apples\n- ",
    "\"Where have you been?\" she asked. He put down his bag, looked at the clock above the stove, "
    "and",
    "?List three reasons why bridges expand in summer, and how builders allow for it.",
    "Theorem. The sum of two even numbers is even. Proof. Let a = 2m and b = 2n. Then a + b =",
    "function debounce(fn, delay) {\n  let timer = null;\n  return function (...args) {\n    "
    "clearTimeout(timer);\n",
    "Il treno per Torino parte alle sette e venti dal binario quattro, ma questa mattina",
    "?My computer has been slow since the last update. What should I check first?",
    "History of the town\n\nThe first settlement at the mouth of the river was built by fishermen, "
    "who",
    "1. Preheat the oven to 180 degrees and butter a round tin.\n2. Beat the eggs with the sugar "
    "until pale.\n3.",
    "?Erkläre einem Kind, warum der Mond manchmal nur halb zu sehen ist.",
    "#!/bin/sh\n# Copies every file that changed today into a dated folder.\nset -eu\nday=$(date "
    "+%Y-%m-%d)\n",
    "The patient, a woman of fifty-two, was advised to rest, to drink water and to come back after",
    "In economics, the price of a good rises when more people want it than can have it. Suppose, "
    "for example, that",
    "?Who wrote Don Quixote, and what is the book about?",
    "class Queue:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n "
    "       self.items.append(item)\n\n    def",
    "O livro conta a história de um carteiro que lê as cartas antes de as entregar.",
    "Once there was a fox who lived at the edge of a large forest and was afraid of the dark.",
    "?Give me five ideas for a birthday present for my father, who likes fishing and old radios.",
    "Solve for x: 3x + 7 = 22. Subtract 7 from both sides to get 3x = 15, then divide by 3. Next, "
    "solve",
    "{\n  \"name\": \"weather-station\",\n  \"sensors\": [\n    {\"id\": 1, \"type\": "
    "\"temperature\", \"unit\": \"C\"},\n",
    "Dear Sir or Madam,\n\nI am writing to complain about the delivery of a bookcase that arrived "
    "on Tuesday with",
    "?Translate into French: the children are playing in the garden while their mother reads the "
    "newspaper.",
    "Cuando el río crece, los vecinos del barrio bajo suben los muebles al primer piso y esperan.",
    "Abstract. We study the behaviour of ant colonies under changing temperature and find that the "
    "number of foragers",
    "for (size_t i = 0; i < n; i++) {\n    if (values[i] > max)\n        max = values[i];\n    sum "
    "+= values[i];\n}\n/* The average is",
    "?Is it safe to eat mushrooms that grow on a dead tree? How can I tell which ones are edible?",
    "The match was decided in the last minute, when the goalkeeper left his line to take a corner "
    "himself and",
    "| Planet | Diameter (km) | Moons |\n|---|---|---|\n| Mercury | 4879 | 0 |\n| Venus | 12104 | "
    "0 |\n| Earth |",
    "Als der Regen endlich aufhörte, öffnete sie das Fenster und hörte unten im Hof zwei Männer "
    "streiten, die",
    "?Summarize in two sentences: the village had one well, and when it ran dry, half of the "
    "families moved to the coast.",
    "# Installation\n\nTo install the package, clone the repository and run:\n\n```\nmake\nmake "
    "install\n```\n\n## Usage\n",
    "Chapter 3\n\nThe letter had lain under the door for two days before anyone noticed it, for "
    "the hall was dark and",
    "use std::collections::HashMap;\n\n/// Counts how often each word occurs in the text.\nfn "
    "count_words(text: &str) -> HashMap<String, usize> {\n",
    "?¿Cuál es la capital de Australia y por qué no es Sídney?",
    "The function f(x) = x^2 - 4x + 3 has its minimum where the derivative is zero: f'(x) = 2x - 4 "
    "= 0, so x =",
    "Photosynthesis takes place in two stages. In the first, light is absorbed by chlorophyll and "
    "water is split; in the second,",
    "?Write a Python function that checks whether a word is a palindrome, and explain how it "
    "works.",
    "L'été de mes douze ans, mon oncle m'apprit à conduire le tracteur, à traire les chèvres et à",
    "A: Have you finished the report?\nB: Nearly. I am waiting for the figures from the Hamburg "
    "office.\nA:",
    "?What are the main differences between a virus and a bacterium? Answer as a short list.",
    "<!DOCTYPE html>\n<html>\n<head>\n  <title>Opening hours</title>\n</head>\n<body>\n  "
    "<h1>Opening hours</h1>\n  <ul>\n",
    "Under the contract, the tenant shall pay the rent on the first day of each month and shall "
    "not",
    "The sun went down behind the dunes. Nobody in the caravan spoke, and even the camels seemed "
    "to",
    "?Plan a day in a city by the sea for a family with two small children: morning, afternoon and "
    "evening.",
    "public class Account {\n    private long balance;\n\n    public void deposit(long amount) {\n "
    "       if (amount <= 0) {\n",
    "A train leaves the station at 9:00 and travels at 80 km/h. A second train leaves at 9:30 and "
    "travels at 100 km/h. After",
    "Zuerst die Zwiebeln fein hacken und in Butter glasig dünsten. Dann das Mehl darüberstäuben "
    "und",
    "?Pourquoi la mer est-elle salée, alors que les rivières ne le sont pas?",
    "The museum is open daily except Monday, from ten to six. Tickets cost eight euros; children "
    "under twelve",
    "def test_empty_list_has_no_maximum():\n    with pytest.raises(ValueError):\n        "
    "maximum([])\n\n\ndef test_",
    "?I feel nervous before my first day at a new job. Can you give me some advice?",
    "Roses need sun, water and a hard pruning in early spring; lavender, on the other hand, wants",
    0,
};
