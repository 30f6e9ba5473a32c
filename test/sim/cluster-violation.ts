// A promise of the cluster that a simulated run has broken.

export type ClusterProperty =
  | 'managers are equal at an equal index'
  | 'acknowledged writes are kept'
  | 'task states only rise'
  | 'no task moves'
  | 'unique names, ports and numbers'
  | 'unique addresses'
  | 'placement'
  | 'depends_on'
  | 'no flapping'
  | 'availability during an update'
  | 'rebalancing'
  | 'nothing fails unseen'
  | 'nothing stops that is served'
  | 'an address is free when nobody has it'
  | 'convergence'

export class ClusterViolation extends Error {
  readonly property: ClusterProperty

  constructor(property: ClusterProperty, detail: string) {
    super(`${property}: ${detail}`)
    this.name = 'ClusterViolation'
    this.property = property
  }
}
