/* conversation.h -- what is wrong with a conversation that a chat template could not render. */
#ifndef NB_TEXT_CONVERSATION_H
#define NB_TEXT_CONVERSATION_H

#include "file/json.h"

/* The first value of {"messages":[...],...} that is not what every template takes it for. false:
 * there is none, so the template is to blame. true: the sentence in err (NB_BAD_INPUT) names the
 * file, the message, the key, and says `why` rendering ended. */
bool nb_conversation_fault(const char *path, const nb_json_node *conversation, const char *why,
                           nb_error *err);

#endif
