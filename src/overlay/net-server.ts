// The server of swarmd-net: serves the engine's driver calls and swarmd's on the holder's sockets, and keeps the data plane.

import { readFile } from 'node:fs/promises'
import type { Server } from 'node:http'
import { DEFAULT_DATA_PATH_PORT } from '../api/defaults.ts'
import type { ProbeRequest } from '../api/network-check.ts'
import type { Clock } from '../lib/clock.ts'
import { CodedError, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import { VERSION } from '../lib/version.ts'
import { buildOf } from './build-of.ts'
import type { DataPlaneFacts, DrainOptions } from './client.ts'
import { type ControlCalls, type VersionAnswer, WATCH_MS } from './control-protocol.ts'
import { DataPath } from './data-path.ts'
import type { DesiredChange } from './desired-state.ts'
import { ipamDriverMethods } from './driver/ipam-driver.ts'
import { type Answer, type Method, networkDriverMethods } from './driver/network-driver.ts'
import { HolderLink } from './holder-link.ts'
import { CONTROL_SOCKET, PLUGIN_SOCKET } from './holder-protocol.ts'
import { createMethodServer } from './http-methods.ts'
import { driverName } from './instance.ts'
import { DNS_ADDRESS, EGRESS_GATEWAY, EGRESS_SUBNET, fabricConfig } from './kernel/fabric-config.ts'
import { type NetOptions, optionArguments } from './net-options.ts'
import { runProbes } from './probe/probe-runner.ts'
import { serveFrom } from './raw-socket.ts'

export interface NetServerOptions {
  readonly options: NetOptions
  readonly instance: number
  readonly program: string
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

const CONTROL_BYTES_MAX = 256 * 1024 * 1024
const PLUGIN_BYTES_MAX = 4 * 1024 * 1024

/** Runs until the holder ends it. */
export async function runNetServer(own: NetServerOptions): Promise<void> {
  const { options, instance, program, clock, random, log } = own
  let stop = (): void => {}
  const stopped = new Promise<void>((resolve) => {
    stop = resolve
  })
  const holder = new HolderLink({
    program,
    arguments: optionArguments(options, instance),
    supervised: options.supervised,
    onStop: () => stop(),
    clock,
    log,
  })
  process.on('SIGTERM', () => stop())
  await holder.start()
  const dataPath = new DataPath({ stateDirectory: options.stateDirectory, instance, holder, clock, random, log })
  // calls that come now wait: the sockets have been there all the time
  await dataPath.open()
  const build = await buildOf(program)
  const facts: DataPlaneFacts = {
    driver: driverName(instance),
    dnsAddress: DNS_ADDRESS,
    egressSubnet: EGRESS_SUBNET,
    egressGateway: EGRESS_GATEWAY,
  }
  const driver = driverMethods(dataPath)
  const control = controlMethods({
    dataPath,
    program,
    fabric: `/run/netns/${fabricConfig({ instance, dataPathPort: DEFAULT_DATA_PATH_PORT }).namespace}`,
    holder,
    version: () => ({ version: VERSION, build, pid: process.pid, holderPid: holder.pid, instance, facts }),
  })
  const servers = [
    await serve(holder, PLUGIN_SOCKET, createMethodServer({ methods: driver, bodyBytesMax: PLUGIN_BYTES_MAX, log })),
    await serve(holder, CONTROL_SOCKET, createMethodServer({ methods: control, bodyBytesMax: CONTROL_BYTES_MAX, log })),
  ]
  log.info({ pid: process.pid, holder: holder.pid, instance, version: VERSION }, 'the data plane is served')
  await stopped
  holder.close()
  for (const server of servers) {
    server.close()
    server.closeIdleConnections()
  }
  await dataPath.close()
  log.info({ pid: process.pid }, 'the server stops')
}

async function serve(holder: HolderLink, name: string, server: Server): Promise<Server> {
  const handle = holder.socket(name)
  if (!handle) throw new CodedError('NO_SOCKET', `the holder has no socket ${name}`)
  await serveFrom(server, handle)
  server.on('error', () => {})
  return server
}

function driverMethods(dataPath: DataPath): Readonly<Record<string, Method>> {
  return {
    'Plugin.Activate': () => ({ Implements: ['NetworkDriver', 'IpamDriver'] }),
    ...networkDriverMethods({
      engine: dataPath.engine,
      state: () => dataPath.state,
      network: (networkId) => dataPath.network(networkId),
      attach: (local) => dataPath.attach(local),
      detach: (endpointId) => dataPath.detach(endpointId),
      get ipv6() {
        return dataPath.ipv6
      },
    }),
    ...ipamDriverMethods(dataPath.engine),
  }
}

interface ControlParts {
  readonly program: string
  /** Path of the fabric's network namespace. */
  readonly fabric: string
  readonly dataPath: DataPath
  readonly holder: HolderLink
  readonly version: () => VersionAnswer
}

type Calls = {
  readonly [Name in keyof ControlCalls]: (
    request: ControlCalls[Name]['request'],
    signal: AbortSignal,
  ) => Promise<ControlCalls[Name]['answer']> | ControlCalls[Name]['answer']
}

function controlMethods({
  dataPath,
  program,
  fabric,
  holder,
  version,
}: ControlParts): Readonly<Record<string, Method>> {
  const nothing = {}
  const calls: Calls = {
    Version: () => version(),
    Apply: async (change: DesiredChange) => {
      await dataPath.apply(change)
      return nothing
    },
    Watch: async ({ serial }, signal) => {
      await dataPath.reports.changedSince(serial, AbortSignal.any([signal, dataPath.after(WATCH_MS)]))
      return dataPath.reports.posted
    },
    Report: async () => {
      await dataPath.refresh()
      return dataPath.reports.posted
    },
    Statistics: ({ kernel }) => dataPath.statistics(kernel),
    Drained: async (options: DrainOptions, signal) => {
      await dataPath.drained(options, signal)
      return nothing
    },
    Upgrade: async ({ program: next }) => {
      await readFile(next).catch((error: unknown) => {
        throw new CodedError('NO_PROGRAM', `no server can be started from ${next}: ${errorMessage(error)}`)
      })
      holder.replaceServer(next)
      return nothing
    },
    Probe: (request: ProbeRequest, signal) => {
      const { state, engine } = dataPath
      return runProbes(program, { request, state, locals: [...engine.locals()], fabric }, signal)
    },
    RotateKeys: async () => {
      await dataPath.rotateKeys()
      return nothing
    },
    Stop: () => {
      holder.end()
      return nothing
    },
  }
  return Object.fromEntries(
    Object.entries(calls).map(([name, call]) => [`Swarmctl.${name}`, call as unknown as Method]),
  ) as Record<string, (request: Answer, signal: AbortSignal) => Promise<Answer>>
}
