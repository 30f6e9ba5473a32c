// /swarm: this node's membership, and the cluster's settings.

import { swarmSpecWithDefaults } from '../../api/defaults.ts'
import { initDecoder, joinDecoder, swarmSpecDecoder, unlockDecoder } from '../../api/validation/object-decoders.ts'
import { validateInit, validateJoin, validateSwarmSpec } from '../../api/validation/payload.ts'
import { refusal } from '../../api/validation/refusal.ts'
import { CodedError } from '../../lib/errors.ts'
import { showUnlockKey } from '../../manager/ca/unlock-key.ts'
import { leaveRefusal, requireCluster, updateCluster } from '../../manager/control/cluster.ts'
import { encodeSwarm } from '../../manager/control/render.ts'
import { remoteAddress } from '../addresses.ts'
import {
  booleanParameter,
  type Call,
  decodeJson,
  flagParameter,
  sendEmpty,
  sendJson,
  sendJsonText,
  versionParameter,
} from './call.ts'
import type { Engine } from './engine.ts'
import { asObject, asText, parseJson } from './engine-json.ts'
import { requireManager, sightOf, swarmExists } from './node-state.ts'
import type { Route } from './router.ts'
import { controlOf, type ServerContext } from './server-context.ts'

export function swarmRoutes(server: ServerContext): readonly Route[] {
  const { cluster } = server
  return [
    {
      place: 'manager',
      method: 'GET',
      path: '/swarm',
      handle: async (call, state) => sendJsonText(call, 200, encodeSwarm(requireCluster(state.view))),
    },
    { place: 'node', method: 'POST', path: '/swarm/init', handle: (call) => init(server, call) },
    { place: 'node', method: 'POST', path: '/swarm/join', handle: (call) => join(server, call) },
    { place: 'node', method: 'POST', path: '/swarm/leave', handle: (call) => leave(server, call) },
    {
      place: 'leader',
      method: 'POST',
      path: '/swarm/update',
      handle: async (call, state) => {
        const rotate = {
          workerToken: booleanParameter(call, 'rotateWorkerToken'),
          managerToken: booleanParameter(call, 'rotateManagerToken'),
          unlockKey: booleanParameter(call, 'rotateManagerUnlockKey'),
        }
        const version = versionParameter(call, 'swarm')
        const spec = decodeJson(call, swarmSpecDecoder)
        const newJoinToken = (digest: string) => cluster.newJoinToken(digest)
        const control = controlOf(server, state, call)
        await updateCluster(control, version, spec, rotate, newJoinToken, cluster.externalSigner())
        sendEmpty(call, 200)
      },
    },
    {
      place: 'manager',
      method: 'GET',
      path: '/swarm/unlockkey',
      handle: async (call, state) =>
        sendJson(call, 200, { UnlockKey: showUnlockKey(requireCluster(state.view).unlockKey) }),
    },
    {
      place: 'node',
      method: 'POST',
      path: '/swarm/unlock',
      handle: async (call) => {
        const state = cluster.state()
        if (state.kind !== 'locked') {
          requireManager(state)
          throw new CodedError('NOT_LOCKED', 'swarm is not locked')
        }
        await cluster.unlock(decodeJson(call, unlockDecoder).UnlockKey)
        sendEmpty(call, 200)
      },
    },
  ]
}

/** @throws {CodedError} INVALID_PARAMETER */
export function snapshotIndex(text: string): number {
  if (!/^[1-9]\d{0,14}$/.test(text)) throw refusal(`invalid index of a snapshot: ${JSON.stringify(text)}`)
  return Number(text)
}

/** Two swarms on one machine would fight over containers and networks. */
export async function refuseEnginesSwarm(engine: Engine): Promise<void> {
  const { body } = await engine.get('/info')
  const state = asText(asObject(asObject(parseJson(body)).Swarm).LocalNodeState)
  if (state === '' || state === 'inactive') return
  throw new CodedError(
    'ENGINE_IN_SWARM_MODE',
    `The Docker Engine at ${engine.name} is part of a swarm of its own (${state}). Take it out of it first: docker -H ${engine.name} swarm leave --force`,
  )
}

async function init(server: ServerContext, call: Call): Promise<void> {
  const body = decodeJson(call, initDecoder)
  const state = server.cluster.state()
  if (state.kind !== 'inactive' && !body.ForceNewCluster) throw swarmExists()
  // Only a manager has a state to begin again with; a machine in no swarm begins one as ever.
  if (state.kind !== 'inactive') requireManager(state)
  const from = call.query.get('fromSnapshot') ?? ''
  if (from !== '' && !body.ForceNewCluster) throw refusal('fromSnapshot is for ForceNewCluster')
  const fromSnapshot = from === '' ? undefined : snapshotIndex(from)
  // Before anything is stopped for it.
  const there = server.cluster.snapshots().map(({ index }) => index)
  if (fromSnapshot !== undefined && !there.includes(fromSnapshot))
    throw refusal(`this manager has no snapshot at index ${from}: it has ${there.join(', ') || 'none'}`)
  const given = body.AutoLockManagers ? { ...body.Spec, EncryptionConfig: { AutoLockManagers: true } } : body.Spec
  const spec = swarmSpecWithDefaults(given)
  validateSwarmSpec(spec)
  const since139 = call.version >= 39
  const pools = since139 ? body.DefaultAddrPool : []
  const subnetSize = since139 ? body.SubnetSize : 0
  const dataPathPort = call.version >= 40 ? body.DataPathPort : 0
  validateInit(dataPathPort, pools, subnetSize)
  await refuseEnginesSwarm(server.engine)
  const nodeId = await server.cluster.init({
    listenAddress: body.ListenAddr,
    advertiseAddress: body.AdvertiseAddr,
    dataPathAddress: body.DataPathAddr,
    dataPathPort,
    defaultAddressPools: pools,
    subnetSize,
    forceNewCluster: body.ForceNewCluster,
    fromSnapshot,
    availability: body.Availability,
    spec,
    given,
  })
  server.events.refresh()
  sendJson(call, 200, nodeId)
}

async function join(server: ServerContext, call: Call): Promise<void> {
  const body = decodeJson(call, joinDecoder)
  if (server.cluster.state().kind !== 'inactive') throw swarmExists()
  validateJoin(body.RemoteAddrs, body.JoinToken)
  await refuseEnginesSwarm(server.engine)
  await server.cluster.join({
    listenAddress: body.ListenAddr,
    advertiseAddress: body.AdvertiseAddr,
    dataPathAddress: body.DataPathAddr,
    remoteAddresses: body.RemoteAddrs.map(remoteAddress),
    joinToken: body.JoinToken,
    availability: body.Availability,
  })
  server.events.refresh()
  sendEmpty(call, 200)
}

async function leave(server: ServerContext, call: Call): Promise<void> {
  const force = flagParameter(call, 'force')
  const state = server.cluster.state()
  if (state.kind === 'inactive') throw new CodedError('NOT_IN_SWARM', 'This node is not part of a swarm')
  if (state.kind === 'locked' && !force) {
    throw new CodedError(
      'SWARM_LOCKED',
      'Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.',
    )
  }
  if (state.kind === 'manager' && !force) throw leaveRefusal(state.view, state.nodeId, sightOf(state))
  await server.cluster.leave(force)
  server.events.refresh()
  sendEmpty(call, 200)
}
