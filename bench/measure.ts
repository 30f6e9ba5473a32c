/** What a measure is and what it yields: figures of ours beside a reference that was measured in the same run. */
import type { BenchCluster } from './bench-cluster.ts'

export interface Sample {
  readonly median: number
  readonly min: number
  readonly max: number
  readonly n: number
}

export interface Figure {
  /** Stable: results of two days are compared by it. */
  readonly name: string
  readonly unit: string
  readonly better: 'higher' | 'lower'
  readonly ours: Sample
  readonly reference?: { readonly what: string; readonly sample: Sample }
  /** What ours / reference ought to be; for a figure without reference, ours. */
  readonly target?: number
  /** What ours ought to be by itself, whatever the reference is; `worst`: each single value. */
  readonly limit?: { readonly median?: number; readonly worst?: number }
}

export interface Bench {
  readonly ours: BenchCluster
  /** Docker's own Swarm mode; undefined with --no-docker. */
  readonly theirs: BenchCluster | undefined
  readonly runs: number
  readonly quick: boolean
  readonly say: (line: string) => void
  /** Whether the measure's share of the bench's time lasts for so many more milliseconds. */
  readonly hasTime: (forMs?: number) => boolean
}

export interface Measure {
  readonly name: string
  /** Its share of a full run; past it no further round begins. */
  readonly minutes: number
  /** Not part of a run unless it is named. */
  readonly onlyIfNamed?: boolean
  readonly run: (bench: Bench) => Promise<readonly Figure[]>
}

export function sampleOf(values: readonly number[]): Sample {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = (sorted.length - 1) / 2
  const median = ((sorted[Math.floor(middle)] ?? 0) + (sorted[Math.ceil(middle)] ?? 0)) / 2
  return { median, min: sorted[0] ?? 0, max: sorted.at(-1) ?? 0, n: sorted.length }
}

/** Numbers of the rounds to run: `count` of them, or as many as there is time for, but one at least. */
export function* rounds(bench: Bench, count = bench.runs): Iterable<number> {
  const startedMs = performance.now()
  for (let round = 0; round < count; round++) {
    const usualMs = round > 0 ? (performance.now() - startedMs) / round : 0
    // one that is half done when time is up is worth it
    if (round > 0 && !bench.hasTime(usualMs / 2)) {
      bench.say(`no time for more than ${round} of ${count} rounds`)
      return
    }
    yield round
  }
}

/** The sides in an order that changes from run to run, so that what drifts on the machine meets both. */
export function sides(bench: Bench, run: number): readonly BenchCluster[] {
  const both = bench.theirs ? [bench.ours, bench.theirs] : [bench.ours]
  return run % 2 === 0 ? both : both.toReversed()
}

/** Values of each side, by its title. */
export class Values {
  readonly #values = new Map<string, number[]>()

  add(title: string, value: number): void {
    this.#values.set(title, [...(this.#values.get(title) ?? []), value])
  }

  sample(title: string): Sample | undefined {
    const values = this.#values.get(title)
    return values && sampleOf(values)
  }

  /** `about.target` is a ratio. @throws if there is no value of ours */
  figure(
    bench: Bench,
    about: Omit<Figure, 'ours' | 'reference'>,
    reference: string | undefined = bench.theirs?.title,
  ): Figure {
    const ours = this.sample(bench.ours.title)
    if (!ours) throw new Error(`nothing was measured of ${about.name}`)
    const sample = reference === undefined ? undefined : this.sample(reference)
    if (reference !== undefined && sample) return { ...about, ours, reference: { what: reference, sample } }
    const { target: _ratio, ...rest } = about
    return { ...rest, ours }
  }
}
