/* RDMs of a made-up layer and of three made-up subjects, their similarity, and the noise ceiling, in C. */
#include <fastrdm/fastrdm.h>
#include <stdio.h>
#include <stdlib.h>

enum { CONDITIONS = 20, CHANNELS = 300, SUBJECTS = 3, WIDTH = 30, CENTRES = CHANNELS / WIDTH, PAIRS = CONDITIONS * (CONDITIONS - 1) / 2 };

/* Numbers from 0 to 1 that are the same on every machine. */
static double next_number(void) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return (state >> 8) / 16777216.0;
}

/* The callback of a long call: a number other than 0 ends it. */
static int is_cancelled(void* user) { return *(const int*)user; }

static void check(int status) {
  if (status == FASTRDM_OK) return;
  fprintf(stderr, "%s: %s\n", fastrdm_status_text(status), fastrdm_last_error());
  exit(1);
}

int main(void) {
  static float layer[CONDITIONS * CHANNELS];
  static double subject[CONDITIONS * CHANNELS], rdm[PAIRS], subjects[SUBJECTS * PAIRS];
  static int64_t neighbours[CHANNELS], starts[CENTRES + 1];
  double similarities[SUBJECTS], lower[SUBJECTS], upper[SUBJECTS], scores[CENTRES];
  int i, s, best = 0, cancelled = 0;
  fastrdm_context* context;

  if (fastrdm_abi_version() != FASTRDM_ABI_VERSION || fastrdm_abi_revision() < FASTRDM_ABI_REVISION) {
    fprintf(stderr, "fastrdm %s is older than its header\n", fastrdm_version());
    return 1;
  }
  check(fastrdm_context_create(&context));
  check(fastrdm_context_set_threads(context, 2));
  check(fastrdm_context_set_cancel(context, is_cancelled, &cancelled));

  for (i = 0; i < CONDITIONS * CHANNELS; i++) layer[i] = (float)next_number();
  check(fastrdm_calc_rdm(context, layer, FASTRDM_FLOAT32, CONDITIONS, CHANNELS, CHANNELS, FASTRDM_CORRELATION, rdm));
  for (s = 0; s < SUBJECTS; s++) {
    for (i = 0; i < CONDITIONS * CHANNELS; i++) subject[i] = layer[i] + next_number();
    check(fastrdm_calc_rdm(context, subject, FASTRDM_FLOAT64, CONDITIONS, CHANNELS, CHANNELS, FASTRDM_CORRELATION, subjects + s * PAIRS));
  }
  check(fastrdm_compare(context, rdm, 1, subjects, SUBJECTS, PAIRS, FASTRDM_SPEARMAN, similarities));
  check(fastrdm_noise_ceiling(context, subjects, SUBJECTS, CONDITIONS, FASTRDM_SPEARMAN, FASTRDM_POOL_RAW, lower, upper));
  for (s = 0; s < SUBJECTS; s++) printf("subject %d: %.6f, noise ceiling %.6f to %.6f\n", s, similarities[s], lower[s], upper[s]);

  /* The last subject's channels in neighbourhoods of 30 that follow each other: which is most like the layer? */
  for (i = 0; i < CHANNELS; i++) neighbours[i] = i;
  for (i = 0; i <= CENTRES; i++) starts[i] = i * WIDTH;
  check(fastrdm_searchlight_scores(context, subject, FASTRDM_FLOAT64, CONDITIONS, CHANNELS, CHANNELS, neighbours, starts, CENTRES,
                                   FASTRDM_CORRELATION, rdm, 1, FASTRDM_SPEARMAN, scores));
  for (i = 1; i < CENTRES; i++)
    if (scores[i] > scores[best]) best = i;
  printf("best neighbourhood: channels from %d, %.6f\n", best * WIDTH, scores[best]);

  /* Misuse is one sentence. */
  if (fastrdm_calc_rdm(context, layer, FASTRDM_FLOAT32, 1, CHANNELS, CHANNELS, FASTRDM_CORRELATION, rdm) != FASTRDM_INVALID) return 1;
  printf("refused: %s\n", fastrdm_last_error());
  fastrdm_context_destroy(context);
  return 0;
}
