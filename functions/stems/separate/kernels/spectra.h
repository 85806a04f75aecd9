/* The spectrogram of a network's last layer as spectra: frequencies beside each other, as the Fourier transform asks. */
#ifndef STEMS_SPECTRA_H
#define STEMS_SPECTRA_H

#include <stdint.h>

/* From `channels` of the `stride` channels of x (frequencies, frames, stride), pairs of channels a complex number, to out (pairs, frames, frequencies + 1) of
 * complex floats: times `scale`, plus `shift`; the last frequency is 0. `spectra.py` mirrors this structure.
 */
struct spectra {
    const void *x;
    float *out;
    int64_t bf16, frequencies, frames, channels, stride;
    float scale, shift;
};

/* Turn the spectrogram round; always 0. */
int stems_spectra(const struct spectra *spectra);

#endif
