#include "scene.h"
const struct scene scenes_bad_input[] = {{"none_bad_input", NULL, NULL}};
const size_t scenes_bad_input_count = 0;
