/** Ten minutes of full load, in which nobody may want another leader: not part of a run unless it is named. */
import { load } from './load.ts'
import { type Bench, type Figure, type Measure, sampleOf } from './measure.ts'
import { removeServices, serviceSpec } from './services.ts'

const MINUTES = 10
const CLIENTS = 32
const WRITES = 2000

async function run(bench: Bench): Promise<readonly Figure[]> {
  const { ours } = bench
  const term = ours.raftTerm()
  const perSecond: number[] = []
  do {
    const requests = Array.from({ length: WRITES }, (_, index) => ({
      method: 'POST',
      path: '/services/create',
      body: serviceSpec(`e${index}`, { replicas: 0 }),
    }))
    const { elapsedMs } = await load({ socketPath: ours.socket(await ours.leader()), clients: CLIENTS, requests })
    perSecond.push(WRITES / (elapsedMs / 1000))
    await removeServices(ours)
  } while (bench.hasTime())
  const elections = ours.raftTerm() - term
  bench.say(`${elections} elections in ${MINUTES} minutes of ${CLIENTS} clients`)
  return [
    {
      ...{ name: `elections in ${MINUTES} minutes of full load`, unit: '', better: 'lower' },
      ...{ ours: sampleOf([elections]), target: 0 },
    },
    {
      name: `services created in that time, ${CLIENTS} clients`,
      unit: '/s',
      better: 'higher',
      ours: sampleOf(perSecond),
    },
  ]
}

export const endurance: Measure = { name: 'endurance', minutes: MINUTES, onlyIfNamed: true, run }
