#include "scene.h"
const struct scene scenes_message[] = {{"none_message", NULL, NULL}};
const size_t scenes_message_count = 0;
