#include "scene.h"
const struct scene scenes_disconnect[] = {{"none_disconnect", NULL, NULL}};
const size_t scenes_disconnect_count = 0;
