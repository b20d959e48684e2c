package main

import "time"

// Numbers of the simulated infusion.
const (
	target    = 50.0  // ml/h
	maxRate   = 120.0 // ml/h, the motor's limit
	gainP     = 0.8   // proportional, 1/s
	gainI     = 0.2   // integral, 1/s²
	motorLag  = 0.5   // s, first-order lag of motor and line
	perSecond = 1.0 / 3600
)

// An infusion is a flow-rate controller (proportional and integral, with the
// integral held at the motor's limits) on a first-order model of pump and line.
type infusion struct {
	dt       float64 // s
	integral float64 // ml/h
	rate     float64 // ml/h, as measured
	volume   float64 // ml delivered
}

func newInfusion(period time.Duration) *infusion {
	return &infusion{dt: period.Seconds()}
}

// step measures, computes the command and lets the motor follow it.
func (i *infusion) step() {
	deviation := target - i.rate
	command := target + gainP*deviation + i.integral
	switch {
	case command > maxRate:
		command = maxRate
	case command < 0:
		command = 0
	default:
		i.integral += gainI * deviation * i.dt
	}
	i.rate += (command - i.rate) / motorLag * i.dt
	i.volume += i.rate * perSecond * i.dt
}
