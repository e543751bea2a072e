/**
 * Where the time of our side goes: a CPU profile of one workload, without the raw sides, and the functions that take
 * most of it themselves.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import { type Profiler, Session } from "node:inspector/promises"
import { basename } from "node:path"
import { turn, type Workload } from "./harness.js"

const profileMs = 4_000
const samplingIntervalMicros = 200
const functionsShown = 25

export const profile = async (workload: Workload): Promise<void> => {
  const { concurrency, ours } = workload
  await workload.prepare()
  await turn(ours, concurrency, 1_000)
  const session = new Session()
  session.connect()
  await session.post("Profiler.enable")
  await session.post("Profiler.setSamplingInterval", { interval: samplingIntervalMicros })
  await session.post("Profiler.start")
  const { latencies } = await turn(ours, concurrency, profileMs)
  const { profile } = await session.post("Profiler.stop")
  session.disconnect()

  const file = `.bench/${workload.name.replaceAll(/\W+/g, "-")}-${concurrency}.cpuprofile`
  mkdirSync(".bench", { recursive: true })
  writeFileSync(file, JSON.stringify(profile))
  console.log(`\n${workload.name}, ${concurrency} at a time: µs of own time per operation (${file})`)
  for (const [name, micros] of ownTime(profile).slice(0, functionsShown)) {
    console.log(`${(micros / latencies.length).toFixed(2).padStart(9)}  ${name}`)
  }
}

const ownTime = ({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile): Array<[string, number]> => {
  const names = new Map(
    nodes.map(({ callFrame, id }) => {
      const place = callFrame.url === "" ? "" : ` ${basename(callFrame.url)}:${callFrame.lineNumber + 1}`
      return [id, `${callFrame.functionName || "(anonymous)"}${place}`]
    })
  )
  const micros = new Map<string, number>()
  for (const [i, id] of samples.entries()) {
    const name = names.get(id) ?? "?"
    micros.set(name, (micros.get(name) ?? 0) + (timeDeltas[i] ?? 0))
  }
  return [...micros].sort((a, b) => b[1] - a[1])
}
