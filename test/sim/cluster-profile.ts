// What a seed makes of a simulated cluster: its size, what goes wrong and how often, what its users do. Whole classes of
// faults are left out at random, so that a fault is not always hidden behind others.

import type { SeededRandom } from '../../src/lib/random.ts'

export interface ClusterProfile {
  readonly managers: number
  readonly workers: number
  /** Time without faults, with them. */
  readonly calmMs: number
  readonly stormMs: number
  /** Mean times between such events; Infinity for never. */
  readonly operationEveryMs: number
  readonly crashEveryMs: number
  readonly powerEveryMs: number
  readonly restartEveryMs: number
  readonly partitionEveryMs: number
  readonly disconnectEveryMs: number
  readonly engineEveryMs: number
  readonly containerEveryMs: number
  readonly transferEveryMs: number
  readonly dataPlaneEveryMs: number
  /** Disks that are nearly full for a while, those of all managers at times. */
  readonly diskFullEveryMs: number
  /** After the storm all managers but one are lost, and that one is made a new cluster. */
  readonly losesMajority: boolean
  /** Workers that join when others have been at work for a while. */
  readonly lateWorkers: number
  /** The cluster rebalances by itself when a node comes; so many moves at one time. */
  readonly rebalanceOnJoin: boolean
  readonly rebalanceAtOnce: number
  /** Longest duration of each. */
  readonly downMs: number
  readonly partitionMs: number
  readonly engineDownMs: number
  /** Chance that a message breaks its connection, that a dial times out. */
  readonly breakRate: number
  readonly dialTimeoutRate: number
  readonly latencyMs: number
  readonly syncMs: number
  readonly diskStallRate: number
  readonly diskStallMs: number
  /** Clocks of machines differ by so much at most, and run so much faster or slower. */
  readonly clockOffsetMs: number
  readonly clockDrift: number
  readonly snapshotInterval: number
  readonly keepEntries: number
  /** Operations on nodes (drain, promote, remove …) among all. */
  readonly nodeOperationShare: number
  readonly maxServices: number
  readonly maxReplicas: number
  readonly taskHistory: number
  /** Chance of an image that does not come to run, or does not last. */
  readonly badImageRate: number
}

export function drawClusterProfile(random: SeededRandom): ClusterProfile {
  const sometimes = (share: number, draw: () => number, otherwise: number) =>
    random.float() < share ? draw() : otherwise
  const between = (low: number, high: number) => low + random.float() * (high - low)
  const every = (share: number, low: number, high: number) => sometimes(share, () => between(low, high), Infinity)
  return {
    managers: sometimes(0.3, () => 5, 3),
    workers: 3 + Math.floor(random.float() ** 2 * 8),
    calmMs: between(10_000, 40_000),
    stormMs: between(20_000, 80_000),
    operationEveryMs: between(300, 3_000),
    crashEveryMs: every(0.6, 4_000, 30_000),
    powerEveryMs: every(0.4, 10_000, 60_000),
    restartEveryMs: every(0.4, 8_000, 40_000),
    partitionEveryMs: every(0.6, 5_000, 40_000),
    disconnectEveryMs: every(0.5, 500, 8_000),
    engineEveryMs: every(0.4, 10_000, 60_000),
    containerEveryMs: every(0.5, 1_000, 10_000),
    transferEveryMs: every(0.4, 5_000, 30_000),
    downMs: between(200, 25_000),
    partitionMs: between(500, 30_000),
    engineDownMs: between(100, 10_000),
    breakRate: sometimes(0.5, () => random.float() ** 3 * 0.02, 0),
    dialTimeoutRate: sometimes(0.4, () => random.float() * 0.3, 0),
    latencyMs: sometimes(0.5, () => between(1, 60), 0.5),
    syncMs: sometimes(0.5, () => between(1, 40), 2),
    diskStallRate: sometimes(0.4, () => random.float() * 0.03, 0),
    diskStallMs: between(100, 3_000),
    clockOffsetMs: sometimes(0.4, () => between(0, 1_500), 0),
    clockDrift: sometimes(0.3, () => between(1, 1.02), 1),
    snapshotInterval: sometimes(0.7, () => 20 + random.below(400), 10_000),
    keepEntries: random.below(60),
    nodeOperationShare: sometimes(0.7, () => 0.1 + random.float() * 0.5, 0),
    maxServices: 2 + random.below(6),
    maxReplicas: 1 + random.below(12),
    taskHistory: random.below(6),
    badImageRate: sometimes(0.7, () => random.float() * 0.5, 0),
    dataPlaneEveryMs: every(0.4, 5_000, 30_000),
    lateWorkers: sometimes(0.6, () => 1 + random.below(2), 0),
    rebalanceOnJoin: random.float() < 0.5,
    rebalanceAtOnce: 1 + random.below(4),
    diskFullEveryMs: every(0.4, 4_000, 30_000),
    losesMajority: random.float() < 0.25,
  }
}
