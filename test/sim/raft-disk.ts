// A simulated disk: writes complete late and in order, and a crash loses what was not synced, except for a random number
// of whole writes that happened to get through.

import type { Ready } from '../../src/raft/core-types.ts'
import type { Entry, HardState, SnapshotMeta, StoredState } from '../../src/raft/types.ts'
import type { RegisterState } from './raft-registers.ts'

export interface StoredSnapshot {
  readonly meta: SnapshotMeta
  readonly state: RegisterState
}

export type DiskWrite =
  | { readonly kind: 'ready'; readonly ready: Ready; readonly restored: StoredSnapshot | undefined }
  /** A snapshot of the member's own state; entries before `firstKept` go. */
  | { readonly kind: 'snapshot'; readonly snapshot: StoredSnapshot; readonly firstKept: number }

export class SimDisk {
  #image: Image
  /** Not synced yet, oldest first. */
  #queue: DiskWrite[] = []

  constructor(stored: StoredState, state: RegisterState) {
    const { hardState, snapshot, entries } = stored
    this.#image = new Image(hardState, { meta: snapshot, state }, entries)
  }

  get stored(): StoredState {
    return this.#image.stored
  }

  get snapshot(): StoredSnapshot {
    return this.#image.snapshot
  }

  /** As it will be when every write is through. */
  view(): Image {
    return this.#queue.reduce((image, write) => image.after(write), this.#image)
  }

  submit(write: DiskWrite): void {
    this.#queue.push(write)
  }

  /** The oldest write is synced. */
  complete(): DiskWrite {
    const write = this.#queue.shift()!
    this.#image = this.#image.after(write)
    return write
  }

  /** `below` draws how many of the unsynced writes got through. */
  crash(below: (bound: number) => number): void {
    for (let survivors = below(this.#queue.length + 1); survivors > 0; survivors--) this.complete()
    this.#queue = []
  }
}

class Image {
  readonly hardState: HardState
  readonly snapshot: StoredSnapshot
  readonly entries: readonly Entry[]

  constructor(hardState: HardState, snapshot: StoredSnapshot, entries: readonly Entry[]) {
    this.hardState = hardState
    this.snapshot = snapshot
    this.entries = entries
  }

  get stored(): StoredState {
    return { hardState: this.hardState, snapshot: this.snapshot.meta, entries: this.entries }
  }

  get snapshotIndex(): number {
    return this.snapshot.meta.index
  }

  entryAt(index: number): Entry | undefined {
    const first = this.entries[0]
    return first && this.entries[index - first.index]
  }

  termAt(index: number): number {
    if (index === this.snapshot.meta.index) return this.snapshot.meta.term
    return this.entryAt(index)?.term ?? 0
  }

  after(write: DiskWrite): Image {
    if (write.kind === 'snapshot') {
      return new Image(this.hardState, write.snapshot, this.#between(write.firstKept, Infinity))
    }
    const { ready, restored } = write
    const kept = restored ? [] : this.#between(0, ready.entries[0]?.index ?? Infinity)
    const entries = ready.entries.length > 0 ? [...kept, ...ready.entries] : kept
    return new Image(ready.hardState ?? this.hardState, restored ?? this.snapshot, entries)
  }

  #between(from: number, before: number): readonly Entry[] {
    const first = this.entries[0]?.index ?? 0
    return this.entries.slice(Math.max(from - first, 0), Math.max(before - first, 0))
  }
}
