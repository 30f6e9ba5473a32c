// A metric as data: its name, and how it is read from a sample. The tables of them are swarm-metrics.ts and own-metrics.ts.

import type { Histogram } from '../../lib/histogram.ts'
import type { LoopDelay } from '../../lib/loop-delay.ts'
import type { Sample } from './node-facts.ts'

export interface Scrape extends Sample {
  /** undefined where nobody measures it: without --metrics-addr */
  readonly loopDelay: LoopDelay | undefined
}

export interface Reading {
  readonly value: number
  readonly labels?: Readonly<Record<string, string>>
}

interface Named {
  readonly name: string
  readonly help: string
}

export type Metric = Named &
  (
    | {
        readonly kind: 'gauge' | 'counter'
        readonly labels?: readonly string[]
        /** No reading: the metric means nothing on this node now. */
        readonly read: (scrape: Scrape) => readonly Reading[]
      }
    | { readonly kind: 'histogram'; readonly read: (scrape: Scrape) => Histogram | undefined }
  )

/** One reading without labels, where there is a value. */
export function one(value: number | boolean | undefined): readonly Reading[] {
  return value === undefined ? [] : [{ value: Number(value) }]
}

/** A reading for each entry, the key as a label. */
export function each(label: string, entries: Iterable<readonly [string, number]>): readonly Reading[] {
  return [...entries].map(([key, value]) => ({ value, labels: { [label]: key } }))
}
