// What the containers of the simulated cluster do: the first part of the image's name says it, what follows the colon only
// makes another image of it.

import type { TaskSpec } from '../../src/api/spec.ts'
import type { SeededRandom } from '../../src/lib/random.ts'
import type { Behaviour } from '../../src/worker/simulated-engine.ts'

export const PROGRAMS = ['good', 'slow', 'stubborn', 'missing', 'broken', 'sick', 'crashy', 'once'] as const
export type Program = (typeof PROGRAMS)[number]

export function programOf(spec: TaskSpec | undefined): Program {
  const name = (spec?.ContainerSpec?.Image ?? '').split(':')[0]
  return PROGRAMS.find((program) => program === name) ?? 'good'
}

/** It comes to run, and runs until it is stopped. `sick` is only so where somebody looks at its health. */
export function isSound(spec: TaskSpec | undefined): boolean {
  const program = programOf(spec)
  return ['good', 'slow', 'stubborn'].includes(program) || (program === 'sick' && !spec?.ContainerSpec?.Healthcheck)
}

/** A failure of it shows before it is RUNNING. */
export function failsEarly(spec: TaskSpec | undefined): boolean {
  return !isSound(spec) && !['crashy', 'once'].includes(programOf(spec))
}

export function behaviourOf(spec: TaskSpec, random: SeededRandom): Behaviour {
  const program = programOf(spec)
  const between = (low: number, high: number) => low + random.float() * (high - low)
  const slow = program === 'slow' ? 4 : 1
  const checked = spec.ContainerSpec?.Healthcheck !== undefined
  return {
    pullMs: between(5, 400) * slow,
    createMs: between(5, 60),
    startMs: between(20, 300) * slow,
    imageMissing: program === 'missing',
    ...(program === 'broken' && { startError: 'exec: "nothing": executable file not found in $PATH' }),
    ...(program === 'crashy' && { exit: { afterMs: between(200, 9_000), code: 1 } }),
    ...(program === 'once' && { exit: { afterMs: between(200, 4_000), code: 0 } }),
    ...(program === 'stubborn' && { stop: { afterMs: between(500, 6_000), code: 143 } }),
    ...(checked && {
      health: [{ afterMs: between(200, 1_500), verdict: program === 'sick' ? 'unhealthy' : 'healthy' }],
    }),
  }
}
