// The metrics as Prometheus reads them. prom-client writes the text; it is loaded with this file, which is imported only where
// somebody wants metrics.

import { Gauge, type MetricType, Registry } from 'prom-client'
import type { Histogram } from '../../lib/histogram.ts'
import type { Metric, Reading, Scrape } from './metric.ts'
import { OWN_METRICS } from './own-metrics.ts'
import { SWARM_METRICS } from './swarm-metrics.ts'

interface Sampled {
  readonly value: number
  readonly labels: Readonly<Record<string, string | number>>
  readonly metricName?: string
}

export const CONTENT_TYPE: string = Registry.PROMETHEUS_CONTENT_TYPE

/** Every metric with its values in this scrape; one that means nothing here now has a heading and no value. */
export async function renderMetrics(scrape: Scrape): Promise<string> {
  const registry = new Registry()
  for (const metric of [...SWARM_METRICS, ...OWN_METRICS]) publish(registry, metric, scrape)
  return await registry.metrics()
}

/** prom-client checks names and escapes; what it would count by itself is counted where it happens already. */
function publish(registry: Registry, metric: Metric, scrape: Scrape): void {
  const { name, help, kind } = metric
  const gauge = new Gauge({ name, help, registers: [registry] })
  const values = kind === 'histogram' ? histogramValues(name, metric.read(scrape)) : metric.read(scrape).map(plain)
  gauge.get = async () => ({
    name,
    help,
    type: kind as unknown as MetricType, // an enum in the types only
    aggregator: 'sum',
    collect: () => {},
    values: [...values],
  })
}

function plain({ value, labels = {} }: Reading): Sampled {
  return { value, labels }
}

function histogramValues(name: string, histogram: Histogram | undefined): readonly Sampled[] {
  if (!histogram) return []
  const { boundsMs, counts, count, sumMs } = histogram
  let below = 0
  const buckets = boundsMs.map((boundMs, at) => {
    below += counts[at]!
    return { metricName: `${name}_bucket`, labels: { le: boundMs / 1000 }, value: below }
  })
  return [
    ...buckets,
    { metricName: `${name}_bucket`, labels: { le: '+Inf' }, value: count },
    { metricName: `${name}_sum`, labels: {}, value: sumMs / 1000 },
    { metricName: `${name}_count`, labels: {}, value: count },
  ]
}
