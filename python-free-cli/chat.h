/* chat.h -- a conversation at the terminal: the turns (chat.c) and what a line that begins with /
 * does (chat_commands.c). */
#ifndef NB_CLI_CHAT_H
#define NB_CLI_CHAT_H

#include "nibble.h"

typedef struct nb_chat_figures {
    size_t prompt, answer; /* tokens that were fed, and that came */
    double prompt_s, answer_s;
} nb_chat_figures;

typedef struct nb_chat {
    nb_model *m;
    nb_session *s;
    char *messages; /* the elements of the JSON array so far, with commas between them; owned */
    size_t messages_n;
    size_t system_n;            /* bytes of the system message in front, 0: there is none */
    char *last;                 /* the last user turn, owned; NULL: none yet */
    size_t last_n, before_last; /* before_last: bytes of messages in front of it */
    int32_t *held;              /* what the session was fed, [n_held]; owned */
    size_t n_held;
    int32_t ctx;
    nb_generate_options o;
    nb_chat_figures now, all; /* of the last answer, of all */
    bool json;
} nb_chat;

/* Adds {"role":...,"content":...} to the conversation. */
nb_status nb_chat_say(nb_chat *c, const char *role, const char *text, size_t n,
                      nb_error *err) NB_CHECKED;
/* The conversation as the model's template renders it, as tokens; nb_free. */
nb_status nb_chat_render(const nb_chat *c, int32_t **ids, size_t *n, nb_error *err) NB_CHECKED;
/* One user turn and its answer. A turn that fails leaves the conversation as it was. */
nb_status nb_chat_turn(nb_chat *c, const char *text, size_t n, nb_error *err) NB_CHECKED;
/* Forgets all but the first n bytes of the messages. */
void nb_chat_cut(nb_chat *c, size_t n);

/* A line "/NAME WORDS". *end: the conversation is over. NB_USAGE: there is no such command. What it
 * says goes to stderr. */
nb_status nb_chat_command(nb_chat *c, const char *line, bool *end, nb_error *err) NB_CHECKED;

#endif
