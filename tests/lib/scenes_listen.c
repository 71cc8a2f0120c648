#include "scene.h"
const struct scene scenes_listen[] = {{"none_listen", NULL, NULL}};
const size_t scenes_listen_count = 0;
