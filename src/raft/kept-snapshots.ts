// Snapshots that a newer one has replaced and that stay, for people who need an earlier state back: which, and how many.

import type { SnapshotMeta } from './types.ts'

/** More are never kept, whatever is asked for. */
export const MAX_KEPT_SNAPSHOTS = 100

export interface SnapshotRecord {
  readonly meta: SnapshotMeta
  readonly generation: number
  readonly chunkCount: number
  readonly sizeBytes: number
}

export interface KeptSnapshot extends SnapshotRecord {
  /** wall time */
  readonly replacedMs: number
}

export class KeptSnapshots {
  /** The oldest first. */
  #kept: readonly KeptSnapshot[] = []
  #limit = 0

  /** What the disk has; so many stay until it is told how many are to. */
  restore(kept: readonly KeptSnapshot[]): void {
    this.#kept = kept
    this.#limit = Math.max(this.#limit, kept.length)
  }

  get list(): readonly KeptSnapshot[] {
    return this.#kept
  }

  /** undefined: it is not to be kept */
  add(replaced: SnapshotRecord, replacedMs: number): KeptSnapshot | undefined {
    if (this.#limit === 0) return undefined
    const kept = { ...replaced, replacedMs }
    this.#kept = [...this.#kept, kept]
    return kept
  }

  setLimit(count: number): void {
    this.#limit = Math.min(Math.max(0, count), MAX_KEPT_SNAPSHOTS)
  }

  /** Those that are too many, which are forgotten here. */
  takeSurplus(): readonly KeptSnapshot[] {
    const surplus = this.#kept.slice(0, Math.max(0, this.#kept.length - this.#limit))
    this.#kept = this.#kept.slice(surplus.length)
    return surplus
  }
}
