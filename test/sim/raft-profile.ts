// What a seed makes go wrong, and how often. Every probability is drawn, and whole classes of faults are left out at
// random, so that a fault is not always hidden behind others.

import type { SeededRandom } from '../../src/lib/random.ts'
import type { CoreLimits } from '../../src/raft/core-types.ts'

export interface Profile {
  readonly voters: number
  readonly durationMs: number
  /** Chance of a message to be lost, sent twice, or late by up to `lateMs`. */
  readonly lossRate: number
  readonly doubleRate: number
  readonly lateRate: number
  readonly lateMs: number
  readonly delayMs: number
  /** Mean times between such events; Infinity for never. */
  readonly partitionEveryMs: number
  readonly crashEveryMs: number
  /** The share of crashes that are a loss of power for all members at once. */
  readonly powerFailureShare: number
  readonly membershipEveryMs: number
  readonly transferEveryMs: number
  readonly partitionMs: number
  readonly downMs: number
  /** Clocks run between 1 / drift and drift times as fast as the true one. */
  readonly drift: number
  readonly diskMs: number
  readonly diskStallRate: number
  readonly diskStallMs: number
  readonly applyMs: number
  /** Entries from one snapshot to the next, and how many are kept behind it. */
  readonly snapshotEvery: number
  readonly snapshotKept: number
  /** Chance that a peer's crash, or a lost message, is noticed at once. */
  readonly noticeRate: number
  readonly keys: number
  readonly clients: number
  /** Longest pause of a client between two operations, and how long it waits for an answer. */
  readonly thinkMs: number
  readonly patienceMs: number
  readonly limits: Partial<CoreLimits>
}

export function drawProfile(random: SeededRandom): Profile {
  const sometimes = (share: number, draw: () => number, otherwise: number) =>
    random.float() < share ? draw() : otherwise
  const between = (low: number, high: number) => low + random.float() * (high - low)
  return {
    voters: 3 + random.below(4),
    durationMs: between(15_000, 60_000),
    lossRate: sometimes(0.6, () => random.float() ** 2 * 0.3, 0),
    doubleRate: sometimes(0.6, () => random.float() * 0.2, 0),
    lateRate: sometimes(0.6, () => random.float() * 0.2, 0),
    lateMs: between(50, 5_000),
    delayMs: between(1, 60),
    partitionEveryMs: sometimes(0.6, () => between(1_500, 15_000), Infinity),
    crashEveryMs: sometimes(0.7, () => between(1_000, 12_000), Infinity),
    powerFailureShare: sometimes(0.5, () => random.float() * 0.5, 0),
    membershipEveryMs: sometimes(0.6, () => between(700, 8_000), Infinity),
    transferEveryMs: sometimes(0.4, () => between(1_000, 10_000), Infinity),
    partitionMs: between(500, 10_000),
    downMs: between(50, 6_000),
    drift: sometimes(0.6, () => between(1, 1.6), 1),
    diskMs: between(0.1, 40),
    diskStallRate: sometimes(0.5, () => random.float() * 0.1, 0),
    diskStallMs: between(100, 3_000),
    applyMs: sometimes(0.5, () => between(0, 200), 0),
    snapshotEvery: sometimes(0.7, () => 3 + random.below(60), 100_000),
    snapshotKept: random.below(20),
    noticeRate: random.float(),
    keys: 1 + random.below(4),
    clients: 2 + random.below(6),
    thinkMs: between(20, 1_000),
    patienceMs: between(500, 5_000),
    limits: {
      heartbeatTicks: 1 + random.below(3),
      maxMessageBytes: sometimes(0.5, () => between(40, 2_000), 1_000_000),
      maxInflightMessages: sometimes(0.5, () => 1 + random.below(8), 256),
      maxUncommittedBytes: sometimes(0.2, () => between(200, 5_000), 1_000_000),
      maxReadyBytes: sometimes(0.3, () => between(40, 1_000), 1_000_000),
      commitNewsWaits: random.float() < 0.5,
    },
  }
}
