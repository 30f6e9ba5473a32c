// `deploy` of a canonical service → its model, and the devices that it or `gpus` asks for.

import { bytes, compact, count, dictionary, duration, itemsIn, mapIn, number, text, texts } from './fields.ts'
import type { DeployModel, DeviceRequestModel, ResourceModel, UpdateModel } from './model.ts'
import type { MapNode } from './node.ts'

export function deploy(map: MapNode | undefined): DeployModel | undefined {
  if (!map) return undefined
  const resources = mapIn(map, 'resources')
  const restart = mapIn(map, 'restart_policy')
  const placement = mapIn(map, 'placement')
  return compact<DeployModel>({
    mode: text(map, 'mode'),
    replicas: count(map, 'replicas'),
    labels: dictionary(map, 'labels'),
    update_config: update(mapIn(map, 'update_config')),
    rollback_config: update(mapIn(map, 'rollback_config')),
    resources:
      resources &&
      compact({
        limits: resource(mapIn(resources, 'limits')),
        reservations: resource(mapIn(resources, 'reservations')),
      }),
    restart_policy:
      restart &&
      compact({
        condition: text(restart, 'condition'),
        delay: duration(restart, 'delay'),
        max_attempts: count(restart, 'max_attempts'),
        window: duration(restart, 'window'),
      }),
    placement:
      placement &&
      compact({
        constraints: texts(placement, 'constraints'),
        preferences: itemsIn(placement, 'preferences')?.map((item) =>
          compact({ spread: item.kind === 'map' ? text(item, 'spread') : undefined }),
        ),
        max_replicas_per_node: count(placement, 'max_replicas_per_node'),
      }),
    endpoint_mode: text(map, 'endpoint_mode'),
  })
}

function update(map: MapNode | undefined): UpdateModel | undefined {
  return (
    map &&
    compact<UpdateModel>({
      parallelism: count(map, 'parallelism'),
      delay: duration(map, 'delay'),
      failure_action: text(map, 'failure_action'),
      monitor: duration(map, 'monitor'),
      max_failure_ratio: number(map, 'max_failure_ratio'),
      order: text(map, 'order'),
    })
  )
}

function resource(map: MapNode | undefined): ResourceModel | undefined {
  return (
    map &&
    compact<ResourceModel>({
      cpus: text(map, 'cpus'),
      memory: bytes(map, 'memory'),
      pids: number(map, 'pids'),
      devices: deviceRequests(map, 'devices'),
      generic_resources: itemsIn(map, 'generic_resources')?.map((item) => {
        const discrete = item.kind === 'map' ? mapIn(item, 'discrete_resource_spec') : undefined
        return compact({
          discrete_resource_spec:
            discrete && compact({ kind: text(discrete, 'kind'), value: number(discrete, 'value') }),
        })
      }),
    })
  )
}

export function deviceRequests(map: MapNode | undefined, key: string): readonly DeviceRequestModel[] | undefined {
  return itemsIn(map, key)?.map((item) => {
    const one = item.kind === 'map' ? item : undefined
    return compact<DeviceRequestModel>({
      capabilities: texts(one, 'capabilities'),
      count: text(one, 'count'),
      device_ids: texts(one, 'device_ids'),
      driver: text(one, 'driver'),
      options: dictionary(one, 'options'),
      at: item.at,
    })
  })
}
