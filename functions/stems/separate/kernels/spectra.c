#include "spectra.h"

#include "vector.h"

enum { SIDE = LANES / 2 }; /* complex numbers in a vector */

/* Exchange rows and columns of 8 x 8 complex numbers. */
static void turn(__m512d x[SIDE])
{
    __m512d y[SIDE], z[SIDE];
    for (int i = 0; i < SIDE; i += 2) {
        y[i] = _mm512_unpacklo_pd(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_pd(x[i], x[i + 1]);
    }
    for (int i = 0; i < SIDE; i += 4)
        for (int j = 0; j < 2; j++) {
            z[i + j] = _mm512_shuffle_f64x2(y[i + j], y[i + j + 2], 0x88);
            z[i + j + 2] = _mm512_shuffle_f64x2(y[i + j], y[i + j + 2], 0xdd);
        }
    for (int j = 0; j < 4; j++) {
        x[j] = _mm512_shuffle_f64x2(z[j], z[j + 4], 0x88);
        x[j + 4] = _mm512_shuffle_f64x2(z[j], z[j + 4], 0xdd);
    }
}

int stems_spectra(const struct spectra *s)
{
    enum { FRAMES = 16 }; /* at once: their pages are still known when the next frequencies are read */
    long pairs = s->channels / 2, across = s->frequencies + 1;
    __m512 scale = _mm512_set1_ps(s->scale), shift = _mm512_set1_ps(s->shift);
    for (long first = 0; first < s->frames; first += FRAMES)
        for (long f = 0; f < across; f += SIDE)
            for (long t = first; t < s->frames && t < first + FRAMES; t++)
                for (long c = 0; c < s->channels; c += LANES) {
                    __m512d x[SIDE];
                    for (int i = 0; i < SIDE; i++) {
                        __mmask16 mask = f + i < s->frequencies ? first_lanes(s->channels - c) : 0;
                        long index = mask ? ((f + i) * s->frames + t) * s->stride + c : 0;
                        __m512 value = load(s->x, (int)s->bf16, index, mask);
                        x[i] = (__m512d)_mm512_maskz_fmadd_ps(mask, value, scale, shift);
                    }
                    turn(x);
                    for (long i = 0; i < SIDE && c / 2 + i < pairs; i++)
                        store(s->out, 0, 2 * (((c / 2 + i) * s->frames + t) * across + f),
                              first_lanes(2 * (across - f)), (__m512)x[i]);
                }
    return 0;
}
