#include "scene.h"
const struct scene scenes_settings[] = {{"none_settings", NULL, NULL}};
const size_t scenes_settings_count = 0;
