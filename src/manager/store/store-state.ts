// One state of the cluster: its objects, with every index over them. It knows no rules: what may change is the store's business.

import type { ObjectKind, ObjectsByKind, StoreObject, Task } from '../../api/objects.ts'
import { type Claim, claims, serviceGroups, taskGroups } from './indexes.ts'
import { Reservations } from './reservations.ts'
import { GroupedObjects, ObjectTable } from './sorted-objects.ts'
import { StateHash } from './state-hash.ts'

type Tables = { readonly [K in ObjectKind]: ObjectTable<ObjectsByKind[K]> }

export class StoreState {
  readonly tables: Tables = {
    cluster: new ObjectTable(),
    node: new ObjectTable(),
    service: new ObjectTable(),
    task: new ObjectTable(),
    network: new ObjectTable(),
    secret: new ObjectTable(),
    config: new ObjectTable(),
  }
  readonly services = new GroupedObjects<ObjectsByKind['service']>()
  readonly tasks = new GroupedObjects<Task>()
  /** Who has what only one object may have. */
  readonly claims = new Map<string, StoreObject>()
  readonly reservations = new Reservations()
  readonly hash = new StateHash()

  insert(object: StoreObject, claimed: readonly Claim[] = claims(object)): void {
    for (const claim of claimed) this.claims.set(claim.key, object)
    this.hash.changed(keyOf(object), object)
    switch (object.kind) {
      case 'service':
        for (const key of serviceGroups(object)) this.services.put(key, object)
        this.tables.service.put(object)
        break
      case 'task':
        for (const key of taskGroups(object)) this.tasks.put(key, object)
        this.reservations.add(object)
        this.tables.task.put(object)
        break
      case 'cluster':
        this.tables.cluster.put(object)
        break
      case 'node':
        this.tables.node.put(object)
        break
      case 'network':
        this.tables.network.put(object)
        break
      case 'secret':
        this.tables.secret.put(object)
        break
      case 'config':
        this.tables.config.put(object)
        break
    }
  }

  delete(object: StoreObject): void {
    for (const claim of claims(object)) {
      if (this.claims.get(claim.key)?.id === object.id) this.claims.delete(claim.key)
    }
    this.hash.changed(keyOf(object), undefined)
    this.tables[object.kind].delete(object.id)
    if (object.kind === 'service') for (const key of serviceGroups(object)) this.services.delete(key, object.id)
    if (object.kind === 'task') {
      for (const key of taskGroups(object)) this.tasks.delete(key, object.id)
      this.reservations.subtract(object)
    }
  }
}

function keyOf(object: StoreObject): string {
  return `${object.kind}/${object.id}`
}
