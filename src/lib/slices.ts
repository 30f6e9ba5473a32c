// Long work of one process that has others to answer meanwhile: done in slices, with a turn of the event loop between them.

import { type Clock, sleep } from './clock.ts'

/** Its result; each `yield` is a place where others may have their turn. */
export type Steps<T> = Generator<undefined, T, undefined>

const SLICE_MS = 10

/** Others run between two steps when a slice is over: what `steps` works on must not be touched by them, or bear it. */
export async function inSlices<T>(steps: Steps<T>, clock: Clock, sliceMs = SLICE_MS): Promise<T> {
  let endMs = clock.nowMs() + sliceMs
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
    if (clock.nowMs() < endMs) continue
    await sleep(clock, 0)
    endMs = clock.nowMs() + sliceMs
  }
}

/** All at once. */
export function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
  }
}
